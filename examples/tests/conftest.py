"""Fixtures of the tests of the examples."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from sandbox.database import postgres


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The URL of a PostgreSQL database, which is empty at first."""
    with postgres() as address:
        yield address


@pytest.fixture
def database(address: str) -> Iterator[psycopg.Connection]:
    """A connection to the database."""
    with psycopg.connect(address, autocommit=True) as connection:
        yield connection
