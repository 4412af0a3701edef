"""Standard output: whole lines, also when a signal ends the run."""

import atexit
import logging
import os
import signal
import stat
import threading
from contextlib import nullcontext

from singer_sdk.contrib.msgspec import MsgSpecWriter
from singer_sdk.exceptions import SingerSDKError
from singer_sdk.singerlib import Message, StateMessage
from typing_extensions import override

_STDOUT = 1
# Bytes that a pipe accepts in one piece, or not at all (PIPE_BUF of Linux).
_GROUP = 4096
# Held while more than that is written, which a signal must not cut.
_LONG_LINE = threading.Lock()


class TargetError(SingerSDKError):
    """The target no longer reads."""


class LineWriter(MsgSpecWriter):
    """Writes messages to standard output, in groups of whole lines.

    A STATE is written together with all messages before it, so a target that received a STATE received all
    records that it covers.
    """

    def __init__(self) -> None:
        self._group = 1 << 16 if stat.S_ISREG(os.fstat(_STDOUT).st_mode) else _GROUP  # a file does not block
        self._waiting = bytearray()
        os.set_blocking(_STDOUT, True)  # another process may have changed the mode of a shared output
        atexit.register(self._flush_at_exit)

    @override
    def write_message(self, message: Message) -> None:
        """Write a message, at once if it is a STATE.

        Raises:
            TargetError: If the target no longer reads.
        """
        line = self.format_message(message)
        if len(self._waiting) + len(line) > self._group:
            self.flush()
        self._waiting += line
        if isinstance(message, StateMessage):
            self.flush()

    def flush(self) -> None:
        """Write the waiting lines.

        Raises:
            TargetError: If the target no longer reads.
        """
        lines, self._waiting = memoryview(self._waiting), bytearray()
        try:
            with _LONG_LINE if len(lines) > _GROUP else nullcontext():
                while lines:
                    lines = lines[os.write(_STDOUT, lines) :]
        except OSError as error:
            raise TargetError(f"The target stopped reading ({error.strerror}). See its log.") from None

    def _flush_at_exit(self) -> None:
        try:
            self.flush()
        except TargetError:
            os._exit(1)  # the run has already failed and logged its error


def end_on_signal(logger: logging.Logger) -> None:
    """Let SIGINT, SIGTERM and SIGHUP end the process with exit status 130, 143 and 129.

    The SDK's handler would write a STATE, perhaps into the middle of another message, and exit with 0.
    A signal handler also could not run while a slow target blocks a write, so a thread waits for the signal.
    """
    signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    # Signals that are ignored at the start, as with nohup, stay ignored.
    signals -= {number for number in signals if signal.getsignal(number) is signal.SIG_IGN}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    threading.Thread(target=_wait_for_signal, args=(signals, logger), daemon=True).start()


def _wait_for_signal(signals: set[signal.Signals], logger: logging.Logger) -> None:
    number = signal.sigwait(signals)
    logger.warning("Stopped by %s. Bookmark not advanced.", signal.Signals(number).name)
    _LONG_LINE.acquire()
    os._exit(128 + number)
