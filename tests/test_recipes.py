"""What the pages under docs/ show is run as it stands there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sandbox.account import Account
from sandbox.api import API_KEY
from sandbox.database import postgres
from sandbox.server import running
from tests.project import Project, shown


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with postgres() as address:
        yield address


@pytest.fixture
def database(address: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(address, autocommit=True) as connection:
        yield connection


@pytest.fixture
def account() -> Iterator[Account]:
    yield Account(offers=12, contacts=10)


@pytest.fixture
def project(account: Account, address: str, tmp_path: Path) -> Iterator[Project]:
    with running(account) as url:
        yield Project(
            tmp_path,
            {
                "TAP_TRACKLY_API_KEY": API_KEY,
                "TAP_TRACKLY_API_URL": url,
                "TARGET_POSTGRES_SQLALCHEMY_URL": address,
            },
        )


def rows(database: psycopg.Connection, query: str) -> list[Any]:
    return database.execute(query.encode()).fetchall()


def offers_of(account: Account) -> tuple[int, Any]:
    return len(account.offers), sum(offer["payout"] for offer in account.offers.values())


def test_many_accounts(project: Project, account: Account, database: psycopg.Connection) -> None:
    page = "docs/many-accounts.md"
    schemas, one_schema = shown(page, "yaml")
    keys, side_by_side, in_turn = (script.replace("trk_...", API_KEY) for script in shown(page, "sh"))
    (question,) = shown(page, "sql")
    globex = Account(offers=9)
    with running(globex) as url:
        project.variables["TAP_TRACKLY__GLOBEX_API_URL"] = url

        project.add(schemas)
        project.run(keys + side_by_side)
        for schema, held in ("acme", account), ("globex", globex):
            assert rows(database, f"SELECT count(*), sum(payout) FROM {schema}.offers") == [offers_of(held)]  # noqa: S608
        states = project.run("meltano state list").splitlines()
        assert {"dev:tap-trackly--acme-to-target-postgres", "dev:tap-trackly--globex-to-target-postgres"} <= {*states}

        project.add(one_schema)
        project.run(keys + in_turn)
        assert rows(database, question) == [("acme", *offers_of(account)), ("globex", *offers_of(globex))]
