"""Standard output: whole lines, also when a signal ends the run."""

from __future__ import annotations

import atexit
import logging
import os
import select
import signal
import stat
import threading
from contextlib import nullcontext

from singer_sdk.contrib.msgspec import MsgSpecWriter, encoder
from singer_sdk.exceptions import SingerSDKError
from singer_sdk.singerlib import Message, RecordMessage, StateMessage
from typing_extensions import override

_STDOUT = 1
# A pipe takes as many bytes whole, or none of them (PIPE_BUF of Linux).
_GROUP = 4096
_FILE_GROUP = 1 << 16  # a file does not block
# Held while a longer line is written, which a signal must not cut.
_LONG_LINE = threading.Lock()
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_LONGEST_WAIT = 2.0  # seconds to wait for a blocked log after a signal


class TargetError(SingerSDKError):
    """The target no longer reads."""


class LineWriter(MsgSpecWriter):
    """Writes messages to standard output, in groups of whole lines.

    A STATE is written together with all messages before it, so a target that received a STATE received all
    records that it covers.

    Attributes:
        records: The number of RECORD messages.
    """

    def __init__(self) -> None:
        self.records = 0
        self._group = _FILE_GROUP if stat.S_ISREG(os.fstat(_STDOUT).st_mode) else _GROUP
        self._waiting = bytearray()
        atexit.register(self._flush_at_exit)

    @override
    def write_message(self, message: Message) -> None:
        """Write a message, at once if it is a STATE.

        Raises:
            TargetError: If the target no longer reads.
        """
        self.records += type(message) is RecordMessage
        end = len(self._waiting)
        encoder.encode_into(message.to_dict(), self._waiting, end)
        self._waiting += b"\n"
        if len(self._waiting) > self._group and end:
            line = self._waiting[end:]
            del self._waiting[end:]
            self.flush()
            self._waiting += line
        if len(self._waiting) >= self._group or isinstance(message, StateMessage):
            self.flush()

    def flush(self) -> None:
        """Write the buffered messages."""
        lines, self._waiting = self._waiting, bytearray()
        try:
            with _LONG_LINE if len(lines) > _GROUP else nullcontext():
                _write(lines)
        except OSError as error:
            raise TargetError(f"The target stopped reading ({error.strerror}). See its log.") from None

    def _flush_at_exit(self) -> None:
        try:
            self.flush()
        except TargetError:
            os._exit(1)  # the run has already failed and logged its error


def _write(lines: bytearray) -> None:
    rest = memoryview(lines)
    while rest:
        try:
            rest = rest[os.write(_STDOUT, rest) :]
        except BlockingIOError:
            select.select([], [_STDOUT], [])


def end_on_signal(logger: logging.Logger) -> None:
    """Let SIGINT, SIGTERM and SIGHUP end the process with exit status 130, 143 and 129.

    The SDK's handler would write a STATE, perhaps into the middle of another message, and exit with 0.
    A signal handler also could not run while a slow target blocks a write, so a thread waits for the signal.
    """
    # Signals that are ignored at the start, as with nohup, stay ignored.
    signals = {number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    threading.Thread(target=_wait_for_signal, args=(signals, logger), daemon=True).start()


def _wait_for_signal(signals: set[signal.Signals], logger: logging.Logger) -> None:
    number = signal.sigwait(signals)
    # In a thread, because the log may block, like the target.
    words = ("Stopped by %s. Bookmark not advanced.", signal.Signals(number).name)
    goodbye = threading.Thread(target=logger.warning, args=words, daemon=True)
    goodbye.start()
    goodbye.join(_LONGEST_WAIT)
    _LONG_LINE.acquire()
    os._exit(128 + number)
