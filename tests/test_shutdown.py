"""A run ends by a signal, a dead target or a kill: the output has whole lines, and the state loses no record."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Mapping
from typing import Any

import pytest

from sandbox.account import Account
from tests.fake_trackly import ERROR, FakeTrackly, Fault, answer, silence
from tests.tap import BOOKMARK, Run, offers_state, started


def stopped(trackly: FakeTrackly, number: signal.Signals, requests: int, **settings: Any) -> Run:
    """Start the tap, and send a signal when the server has received a number of requests."""
    with started(trackly.config(**settings), state=offers_state()) as process:
        while len(trackly.requests) < requests:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        stdout, log = process.communicate(timeout=60)
    return Run(process.returncode, stdout, log)


@pytest.mark.parametrize("number,status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("fault", [silence, answer(ERROR, 503, Retry_After="200")], ids=["in a request", "in a pause"])
def test_signal(trackly: FakeTrackly, number: signal.Signals, status: int, fault: Fault) -> None:
    trackly.inject(fault, page=2, status=None)
    run = stopped(trackly, number, requests=3, page_size=10, concurrency=2)
    assert run.status == status
    assert "Traceback" not in run.log
    assert all(state["bookmarks"]["offers"]["replication_key_value"] == BOOKMARK for state in run.states)


@pytest.mark.parametrize("size", [100, 9000, 500_000])
def test_signal_while_the_target_is_busy_for_long(trackly: FakeTrackly, size: int) -> None:
    """The tap ends with a whole line."""
    offers = 5_000_000 // size
    trackly.put(*({"id": f"{number:06}", "name": "x" * size} for number in range(offers)))
    reader, pipe = os.pipe()
    with started(trackly.config(), stdout=pipe) as process:
        while select.select([], [pipe], [], 0.01)[1]:
            assert process.poll() is None  # until the pipe is full
        os.close(pipe)
        process.send_signal(signal.SIGTERM)
        time.sleep(3)
        with os.fdopen(reader, encoding="utf-8") as output:
            stdout = output.read()
        assert process.wait(60) == 143
    assert 0 < len(Run(143, stdout, "").records) < offers


def test_dead_target(trackly: FakeTrackly) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with started(trackly.config(), stdout=writer) as process:
        os.close(writer)
        _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in log


class Target:
    """A table by id, and the last STATE that was received."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.state: dict[str, Any] | None = None

    def load(self, trackly: FakeTrackly, messages: int | None = None) -> int:
        """Load messages into the table, and return their number; kill the tap after a given number."""
        with started(trackly.config(page_size=2, full_resend_hours=1), state=self.state) as process:
            assert process.stdout
            lines: list[str] = []
            while len(lines) != messages and (line := process.stdout.readline()):
                lines.append(line)
            if messages is not None:
                process.kill()
            rest = process.stdout.read()
        for message in Run(0, "".join(lines) + rest, "").messages[: len(lines)]:
            if message["type"] == "RECORD":
                self.rows[message["record"]["id"]] = message["record"]
            if message["type"] == "STATE":
                self.state = message["value"]
        return len(lines)


def shown(offers: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[Any, Any]]:
    return {key: (offer["payout"], offer["status"]) for key, offer in offers.items()}


@pytest.mark.parametrize("killed_run", ["first", "second"])
def test_kill_after_each_message(trackly: FakeTrackly, killed_run: str) -> None:
    """After a kill, a run from the last STATE makes the table equal to the account."""
    trackly.account = Account(5)
    messages = Target().load(trackly)
    assert messages >= 7
    for after in range(messages + 1):
        trackly.account, target = Account(5), Target()
        offers = trackly.account.offers
        target.load(trackly, after if killed_run == "first" else None)
        changed, archived = list(offers)[after % 5], list(offers)[(after + 1) % 5]
        offers[changed].update(payout=after, updated_at="2026-01-01T00:00:00Z")
        offers[archived].update(status="archived", updated_at="2026-01-02T00:00:00Z")
        if killed_run == "second":
            target.load(trackly, after)
        target.load(trackly)
        assert shown(target.rows) == shown(offers)
