"""How messages get to the target: whole lines, many at a time, and all of them with each STATE."""

from __future__ import annotations

import atexit
import os
from threading import Lock

from singer_sdk.contrib.msgspec import MsgSpecWriter
from singer_sdk.singerlib import Message, StateMessage

STDOUT = 1
CHUNK = 1 << 16  # bytes, which is what a pipe holds

# Held while lines are on their way: who holds it can end the process without leaving half a line.
WRITING = Lock()


class LineWriter(MsgSpecWriter):
    """Writes messages to standard output.

    What is written is gone from this process before a STATE is, so a target that got a STATE got all
    that it speaks of. A STATE that repeats the message before it is left out.
    """

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._last_state: bytes | None = None
        atexit.register(self._flush_at_exit)

    def write_message(self, message: Message) -> None:
        """Write a message now if it is a STATE, else soon."""
        line = self.format_message(message)
        if isinstance(message, StateMessage):
            self._write_state(bytes(line))
            return
        self._last_state = None
        self._waiting += line
        if len(self._waiting) >= CHUNK:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        lines, self._waiting = self._waiting, bytearray()
        with WRITING:
            rest = memoryview(lines)
            while rest:
                rest = rest[os.write(STDOUT, rest) :]

    def _flush_at_exit(self) -> None:
        try:
            self.flush()
        except OSError:  # the target is gone, and nobody is left to tell
            os._exit(1)

    def _write_state(self, line: bytes) -> None:
        if line != self._last_state:
            self._waiting += line
            self.flush()
            self._last_state = line
