"""How messages get to the target: whole lines, many at a time, and all of them with each STATE."""

from __future__ import annotations

import atexit
import os
import select
import signal

from singer_sdk.contrib.msgspec import MsgSpecWriter
from singer_sdk.singerlib import Message, StateMessage

STDOUT = 1


class LineWriter(MsgSpecWriter):
    """Writes messages to standard output.

    What is written is gone from this process before a STATE is, so a target that got a STATE got all
    that it speaks of. A STATE that repeats the message before it is left out.
    """

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._last_state: bytes | None = None
        atexit.register(self.flush)

    def write_message(self, message: Message) -> None:
        """Write a message now if it is a STATE, else soon."""
        line = self.format_message(message)
        if isinstance(message, StateMessage):
            self._write_state(bytes(line))
            return
        self._last_state = None
        if len(self._waiting) + len(line) > select.PIPE_BUF:
            self.flush()
        self._waiting += line

    def flush(self) -> None:
        """Write what waits."""
        lines, self._waiting = self._waiting, bytearray()
        if len(lines) <= select.PIPE_BUF:
            # A pipe takes this much whole or not at all, so no signal can leave half a line there.
            _write_all(lines)
            return
        held_back = {signal.SIGINT, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, held_back)
        try:
            _write_all(lines)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, held_back)

    def _write_state(self, line: bytes) -> None:
        if line != self._last_state:
            self.flush()
            self._waiting += line
            self.flush()
            self._last_state = line


def _write_all(lines: bytearray) -> None:
    rest = memoryview(lines)
    while rest:
        rest = rest[os.write(STDOUT, rest) :]
