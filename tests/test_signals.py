"""Signals end the process, but not in the middle of a line."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIG_DFL, SIGHUP, SIGINT, SIGTERM, Signals

import pytest

WAITING = """
import logging, sys
from singer_sdk.singerlib import RecordMessage
from tap_trackly.output import LineWriter, end_on_signal
end_on_signal(logging.getLogger())
print("ready", file=sys.stderr, flush=True)
size = int(sys.stdin.readline())
writer = LineWriter()
while size:
    writer.write_message(RecordMessage("offers", {"name": "x" * size}))
sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def _default_sighup() -> Iterator[None]:
    """The processes of a test must not inherit that the tests themselves were started with nohup."""
    before = signal.signal(SIGHUP, SIG_DFL)
    yield
    signal.signal(SIGHUP, before)


@contextmanager
def waiting(*wrapper: str, stdout: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """Start a process that reads a number, and then writes records of this size without end."""
    pipe = subprocess.PIPE
    command = [*wrapper, sys.executable, "-c", WAITING]
    with subprocess.Popen(command, stdin=pipe, stdout=stdout, stderr=pipe, encoding="utf-8", bufsize=1) as process:
        try:
            assert process.stderr
            assert "ready\n" in iter(process.stderr.readline, "")
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number,status", [(SIGINT, 130), (SIGTERM, 143), (SIGHUP, 129)])
def test_exit_status_after_signal(number: Signals, status: int) -> None:
    with waiting() as process:
        process.send_signal(number)
        assert process.wait(60) == status
        assert process.stderr
        log = process.stderr.read()
    assert log == f"Stopped by {number.name}. Bookmark not advanced.\n"


@pytest.mark.parametrize("size", [100, 3000, 5000, 1_000_000])
def test_signal_while_the_target_is_busy(size: int) -> None:
    reader, pipe = os.pipe()
    with waiting(stdout=pipe) as process:
        assert process.stdin
        assert process.stderr
        process.stdin.write(f"{size}\n")
        while select.select([], [pipe], [], 0.01)[1]:
            assert process.poll() is None  # until the pipe is full
        os.close(pipe)
        process.send_signal(SIGTERM)
        assert "SIGTERM" in process.stderr.readline()
        with os.fdopen(reader, encoding="utf-8") as output:
            lines = output.readlines()
        assert process.wait(60) == 143
    assert lines
    assert all(line.endswith("}\n") for line in lines)
    assert {len(json.loads(line)["record"]["name"]) for line in lines} == {size}


def test_nohup_is_honoured() -> None:
    with waiting("nohup") as process:
        process.send_signal(SIGHUP)
        process.send_signal(SIGTERM)
        assert process.wait(60) == 143
