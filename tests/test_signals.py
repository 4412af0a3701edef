"""Signals end the process, but not in the middle of a line."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIG_DFL, SIGHUP, SIGINT, SIGTERM, Signals

import pytest

WAITING = """
import logging, sys
from tap_trackly.shutdown import WRITING, end_on_signal
end_on_signal(logging.getLogger())
print("ready", flush=True)
sys.stdin.readline()
with WRITING:
    print("half ", end="", flush=True)
    sys.stdin.readline()
    print("line", flush=True)
sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def _default_sighup() -> Iterator[None]:
    """The processes of a test must not inherit that the tests themselves were started with nohup."""
    before = signal.signal(SIGHUP, SIG_DFL)
    yield
    signal.signal(SIGHUP, before)


@contextmanager
def waiting(*wrapper: str) -> Iterator[subprocess.Popen[str]]:
    """Start a process that writes each half of a line after it has read a line."""
    pipe = subprocess.PIPE
    command = [*wrapper, sys.executable, "-c", WAITING]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, encoding="utf-8", bufsize=1) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
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


def test_signal_waits_for_whole_line() -> None:
    with waiting() as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write("begin\n")
        assert process.stdout.read(5) == "half "
        process.send_signal(SIGTERM)
        assert "SIGTERM" in process.stderr.readline()
        process.stdin.write("end\n")
        assert process.wait(60) == 143
        assert process.stdout.read() == "line\n"


def test_nohup_is_honoured() -> None:
    with waiting("nohup") as process:
        process.send_signal(SIGHUP)
        process.send_signal(SIGTERM)
        assert process.wait(60) == 143
