"""Messages on standard output: the same as from the SDK's writer, in whole lines, written with each STATE."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from decimal import Decimal

import pytest
from singer_sdk.contrib.msgspec import MsgSpecWriter
from singer_sdk.singerlib import ActivateVersionMessage, Message, RecordMessage, SchemaMessage, StateMessage

from tap_trackly.output import LineWriter, TargetError
from tap_trackly.tap import TapTrackly

STATE = StateMessage({"bookmarks": {"offers": {"replication_key_value": "2025-12-15T09:12:00+00:00"}}})


def record(**fields: object) -> RecordMessage:
    return RecordMessage("offers", fields, time_extracted=datetime(2025, 12, 15, tzinfo=timezone.utc))


MESSAGES: list[Message] = [
    SchemaMessage("offers", {"properties": {"id": {"type": ["string"]}}}, ["id"], ["updated_at"]),
    record(id="1", payout=Decimal("1000000000000000.25"), name='ß\u2028"\\\n\t😀\x00', empty="", none=None),
    record(id="2", payout=Decimal("2.50"), big=2**70, metadata={"": {"deep": [1, True, None, Decimal("0.10")]}}),
    record(id="3", day=datetime(2025, 1, 1, tzinfo=timezone.utc)),
    ActivateVersionMessage("offers", 1),
    STATE,
    record(id="4"),
    STATE,
]


@contextmanager
def standard_output(file: int) -> Iterator[None]:
    """Redirect the standard output of this process."""
    saved = os.dup(1)
    os.dup2(file, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def test_same_messages_as_sdk(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    writer, sdk_writer = LineWriter(), MsgSpecWriter()
    for message in MESSAGES:
        writer.write_message(message)
    assert capfdbinary.readouterr().out == b"".join(bytes(sdk_writer.format_message(message)) for message in MESSAGES)


def test_tap_uses_line_writer() -> None:
    assert isinstance(TapTrackly(config={"api_key": "x"}).message_writer, LineWriter)


def test_state_flushes_messages(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    writer = LineWriter()
    for message in MESSAGES[:5]:
        writer.write_message(message)
        assert capfdbinary.readouterr().out == b""
    writer.write_message(STATE)
    types = [json.loads(line)["type"] for line in capfdbinary.readouterr().out.splitlines()]
    assert types == ["SCHEMA", "RECORD", "RECORD", "RECORD", "ACTIVATE_VERSION", "STATE"]


def test_groups_of_lines() -> None:
    """Lines are written in groups that a pipe takes whole; only a longer line is written by itself."""
    sizes = [*range(0, 3000, 7), 4000, 5000, 10, 20_000, 4096, 1, 8192, 3900]
    messages = [record(id=str(place), name="x" * size) for place, size in enumerate(sizes)]
    target, standard = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # keeps the writes apart
    received: list[bytes] = []

    def read() -> None:
        while part := target.recv(1 << 20):
            received.append(part)

    thread = threading.Thread(target=read)
    thread.start()
    with standard_output(standard.fileno()):
        writer = LineWriter()
        for message in messages:
            writer.write_message(message)
        writer.flush()
    standard.close()
    thread.join(60)
    target.close()
    assert all(group.endswith(b"\n") for group in received)
    assert all(len(group) <= 4096 or group.count(b"\n") == 1 for group in received)
    assert max(len(group) for group in received if group.count(b"\n") > 1) > 3500
    assert b"".join(received) == b"".join(bytes(MsgSpecWriter().format_message(message)) for message in messages)


@pytest.mark.parametrize("is_blocking", [True, False], ids=["blocking", "non-blocking"])
@pytest.mark.parametrize("size", [100, 1_000_000], ids=["short lines", "long lines"])
def test_slow_target(size: int, *, is_blocking: bool) -> None:
    reader, pipe = os.pipe()
    os.set_blocking(pipe, is_blocking)
    messages = [record(id=str(place), name="x" * size) for place in range(2_000_000 // size)]
    received = bytearray()

    def write() -> None:
        writer = LineWriter()
        for message in messages:
            writer.write_message(message)
        writer.flush()

    with standard_output(pipe):
        writing = threading.Thread(target=write)
        writing.start()
        while select.select([], [pipe], [], 0.01)[1]:
            assert writing.is_alive()  # until the pipe is full
        while writing.is_alive() or select.select([reader], [], [], 0)[0]:
            if select.select([reader], [], [], 0.01)[0]:
                received += os.read(reader, 5000)
        writing.join()
    os.close(pipe)
    os.close(reader)
    assert received == b"".join(bytes(MsgSpecWriter().format_message(message)) for message in messages)


def test_dead_target() -> None:
    reader, pipe = os.pipe()
    os.close(reader)
    writer = LineWriter()
    with standard_output(pipe), pytest.raises(TargetError, match=r"^The target stopped reading \(Broken pipe\)\."):
        writer.write_message(STATE)
    os.close(pipe)
    writer.flush()  # a failed write is not repeated


LEAVING = """
import sys
from singer_sdk.singerlib import RecordMessage
from tap_trackly.output import LineWriter
LineWriter().write_message(RecordMessage("offers", {"id": "1"}))
sys.exit(3)
"""


def test_flush_at_exit() -> None:
    run = subprocess.run([sys.executable, "-c", LEAVING], capture_output=True, encoding="utf-8", check=False)
    assert (run.returncode, json.loads(run.stdout)["record"]) == (3, {"id": "1"})


def test_flush_at_exit_without_target() -> None:
    reader, pipe = os.pipe()
    os.close(reader)
    run = subprocess.run([sys.executable, "-c", LEAVING], stdout=pipe, stderr=subprocess.PIPE, check=False)
    os.close(pipe)
    assert (run.returncode, run.stderr) == (1, b"")
