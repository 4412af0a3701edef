"""The tap may die at any moment: a next run from the last STATE makes the target equal to the account."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Trackly
from tests.tap import TAP, arguments, environment, exact, selecting

SETTINGS = {"page_size": 2, "full_resend_hours": 1}


class Target:
    """A table keyed by id, and the last STATE that came."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.state: dict[str, Any] | None = None

    def take(self, line: str) -> None:
        message = exact(line)
        if message["type"] == "RECORD":
            self.rows[message["record"]["id"]] = message["record"]
        if message["type"] == "STATE":
            self.state = message["value"]


def load(trackly: Trackly, target: Target, killed_after: int | None = None) -> int:
    """Run the tap into the target, perhaps only until some messages have come; return their number."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(TAP), *arguments(Path(folder), trackly.config(**SETTINGS), target.state, selecting("offers"))]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8", env=environment()
        ) as process:
            assert process.stdout
            taken = 0
            while taken != killed_after and (line := process.stdout.readline()):
                target.take(line)
                taken += 1
            if killed_after is not None:
                process.kill()
    return taken


def shown(offers: dict[str, dict[str, Any]]) -> dict[str, tuple[Any, Any]]:
    return {key: (offer["payout"], offer["status"]) for key, offer in offers.items()}


@pytest.mark.parametrize("first_run_too", [True, False])
def test_a_kill_after_any_message_loses_nothing(trackly: Trackly, first_run_too: bool) -> None:  # noqa: FBT001
    small = dict(list(trackly.account.offers.items())[:5])
    trackly.account.offers = small
    messages = load(trackly, Target())
    assert messages >= 7
    for after in range(messages + 1):
        target = Target()
        load(trackly, target, killed_after=after if first_run_too else None)
        trackly.account.update(list(small)[after % 5], {"payout": after})
        trackly.account.archive(list(small)[(after + 1) % 5])
        if not first_run_too:
            load(trackly, target, killed_after=after)
        load(trackly, target)
        assert shown(target.rows) == shown(small)
        for offer in small.values():
            trackly.account.update(offer["id"], {"status": "active"})
