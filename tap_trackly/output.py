"""Writes messages to standard output in batches of whole lines. A STATE flushes them."""

from __future__ import annotations

import atexit
import os

from singer_sdk.contrib.msgspec import MsgSpecWriter, encoder
from singer_sdk.exceptions import SingerSDKError
from singer_sdk.singerlib import Message, StateMessage
from typing_extensions import override

from tap_trackly.shutdown import WRITING

_STDOUT = 1
_CHUNK = 1 << 16  # bytes, the capacity of a pipe


class TargetError(SingerSDKError):
    """The target no longer reads."""


class LineWriter(MsgSpecWriter):
    """Writes messages to standard output.

    A STATE is written together with all messages before it, so a target that received a STATE received all
    records that it covers.

    Attributes:
        ends_with_state: Whether the latest message is a STATE.
    """

    def __init__(self) -> None:
        self.ends_with_state = False
        self._waiting = bytearray()
        atexit.register(self._flush_at_exit)

    @override
    def write_message(self, message: Message) -> None:
        """Write a message, at once if it is a STATE.

        Raises:
            TargetError: If the target no longer reads.
        """
        encoder.encode_into(message.to_dict(), self._waiting, -1)  # -1: at the end
        self._waiting += b"\n"
        self.ends_with_state = isinstance(message, StateMessage)
        if len(self._waiting) >= _CHUNK or self.ends_with_state:
            self.flush()

    def flush(self) -> None:
        """Write the buffered messages."""
        lines, self._waiting = self._waiting, bytearray()
        try:
            with WRITING:
                rest = memoryview(lines)
                while rest:
                    rest = rest[os.write(_STDOUT, rest) :]
        except OSError as error:
            raise TargetError(f"The target stopped reading ({error.strerror}). See its log.") from None

    def _flush_at_exit(self) -> None:
        try:
            self.flush()
        except TargetError:
            os._exit(1)  # the run has already failed and logged its error
