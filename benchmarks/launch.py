"""Runs a command and writes its time and memory to a file: `python -I -S launch.py FILE COMMAND ...`.

This is a separate, small process, because on Linux the peak memory of a command is never less than that
of the process that started it.
"""

import os
import signal
import sys
import time
from types import FrameType

LONGEST_RUN = 600  # seconds


def main() -> None:
    """Run the command; after a signal or `LONGEST_RUN`, kill it and its children."""
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
    with open(report, "w") as file:  # noqa: PTH123 - pathlib would double the memory of this process
        file.write(f"{os.waitstatus_to_exitcode(status)} {wall} {processor} {usage.ru_maxrss}")


main()
