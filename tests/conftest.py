"""The parts that the tests run against: a sandbox account, PostgreSQL, Meltano."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from sandbox.account import Account
from sandbox.api import API_KEY
from sandbox.server import running
from tests.tap import Run, run_tap


@dataclass
class Trackly:
    """An account that is being served."""

    account: Account
    url: str

    def config(self, **settings: Any) -> dict[str, Any]:
        """Return the tap's settings for this account."""
        return {"api_key": API_KEY, "api_url": self.url, **settings}

    def sync(self, state: dict[str, Any] | None = None, catalog: dict[str, Any] | None = None, **settings: Any) -> Run:
        """Run the tap against this account; it must succeed."""
        run = run_tap(self.config(**settings), state=state, catalog=catalog)
        assert run.status == 0, run.log
        return run

    def put(self, *offers: dict[str, Any]) -> None:
        """Let the account hold these offers only."""
        self.account.offers = {str(offer["id"]): {"status": "active", "metadata": {}, **offer} for offer in offers}


@pytest.fixture
def trackly() -> Iterator[Trackly]:
    account = Account(offers=25)
    with running(account) as url:
        yield Trackly(account, url)
