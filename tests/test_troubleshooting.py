"""The tap logs each message in the table of docs/troubleshooting.md for the documented cause."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from sandbox.account import Account
from sandbox.api import API_KEY
from sandbox.samples import Record
from sandbox.server import running
from tests.project import HOME
from tests.tap import TAP, environment, run_tap

MESSAGES = re.findall(r"^\| (`.+?) \|", (HOME / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
TESTED_ELSEWHERE = {
    "`certificate verify failed`",
    "`Failed to parse JSON array from string: 'active'`",
    "`Incomplete read`",
    "`The target stopped reading`",
    "`redirects are not followed`",
    "`psycopg.OperationalError`",
}
SETTINGS: dict[str, dict[str, Any]] = {
    "`'api_key' is a required property`": {"api_key": None},
    "`is greater than the maximum of 100 in config['page_size']`": {"page_size": 1000},
    "`Invalid setting stream_maps`": {"stream_maps": {"offers": {"net": "payout * 0.9"}}},
    "`Unknown setting pagesize is ignored. Did you mean page_size?`": {"pagesize": 10},
    "`HTTP 401`": {"api_key": "trk_revoked"},
    "`HTTP 404` and `Check the setting api_url`": {"api_url": "{url}/v1"},
    "`Check the setting api_url. Gave up after`": {"api_url": "http://127.0.0.1:9"},
}
ANSWERS: dict[str, tuple[int, Any]] = {
    "`is HTML, not JSON. Check the setting api_url`": (200, "<!DOCTYPE html><title>Sign in</title>"),
    "`HTTP 403` and `The account has no access`": (403, {"error": "Account is suspended"}),
    "`HTTP 429` and `Gave up after`": (429, {"error": "Slow down"}),
    "`HTTP 503` and `Gave up after`": (503, {"error": "Server error", "code": "server_error"}),
}
STATES = {"`Invalid state file`": {"type": "STATE", "value": {}}}


class FailingAccount(Account):
    """An account that responds to each request with the same error."""

    def __init__(self, status: int, answer: Any) -> None:
        super().__init__(offers=0)
        if isinstance(answer, str):
            self.response = Response(answer, status, content_type="text/html")
        else:
            self.response = Response(json.dumps(answer), status)

    def records(self, kind: str) -> list[Record]:  # noqa: ARG002
        raise HTTPException(response=self.response)


@contextmanager
def failing(message: str) -> Iterator[dict[str, Any]]:
    """Serve an account, and yield settings with which the tap logs the message."""
    account = FailingAccount(*ANSWERS[message]) if message in ANSWERS else Account(offers=3)
    with running(account) as url:
        settings = {"api_key": API_KEY, "api_url": url, "max_retries": 0, **SETTINGS.get(message, {})}
        yield {**settings, "api_url": settings["api_url"].format(url=url)}


@pytest.mark.parametrize("message", [message for message in MESSAGES if message not in TESTED_ELSEWHERE])
def test_message(message: str) -> None:
    with failing(message) as config:
        run = run_tap(config, state=STATES.get(message))
    (line,) = run.lines("ERROR") or run.lines("WARNING")
    assert all(text in line for text in re.findall("`(.+?)`", message))
    assert run.status == (0 if line in run.lines("WARNING") else 1)


def test_message_of_a_target_that_stops() -> None:
    with running(Account(offers=3)) as url:
        finished = subprocess.run(
            ["/bin/bash", "-c", f"{TAP} --config=ENV | false"],
            env=environment(TAP_TRACKLY_API_KEY=API_KEY, TAP_TRACKLY_API_URL=url),
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
    assert "The target stopped reading" in finished.stderr
