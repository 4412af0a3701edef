"""Runs a command and writes to a file what it took: `python -I -S launch.py FILE COMMAND ...`.

It is a small process of its own, because Linux counts the peak of the process that starts a command
as the least peak of the command.
"""

import os
import signal
import sys
import time
from types import FrameType

LONGEST_RUN = 600  # seconds


def main() -> None:
    """Run the command, and end it and what it started if it does not end."""
    report, *command = sys.argv[1:]
    started = time.monotonic()
    child = os.posix_spawnp(command[0], command, os.environ, setpgroup=0)

    def end(_number: int, _frame: FrameType | None) -> None:
        os.killpg(child, signal.SIGKILL)

    for number in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    signal.alarm(LONGEST_RUN)
    _, status, usage = os.wait4(child, 0)
    wall = time.monotonic() - started
    processor = usage.ru_utime + usage.ru_stime
    with open(report, "w") as file:  # noqa: PTH123 - pathlib would double the size of this process
        file.write(f"{os.waitstatus_to_exitcode(status)} {wall} {processor} {usage.ru_maxrss}")


main()
