"""Fixtures of all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.account import Account
from tests.fake_trackly import FakeTrackly
from tests.servers import serving


def pytest_configure(config: pytest.Config) -> None:
    """Let --snapshot-update keep the snapshot of a test that fails before it compares."""
    config.option.no_cleanup = True


@pytest.fixture
def trackly() -> Iterator[FakeTrackly]:
    """A fake Trackly with 25 offers, of which 2 are archived."""
    with serving(FakeTrackly(Account(25))) as trackly:
        yield trackly
