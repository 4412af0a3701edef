"""Dagster loads two accounts in process."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from dagster import DagsterInstance, ExecuteInProcessResult

from examples.dagster.definitions import ACCOUNTS, definitions
from sandbox.account import Account
from sandbox.api import API_KEY
from sandbox.samples import Record
from sandbox.server import running
from tests.project import HOME, MELTANO, Project, shown

EXAMPLE = HOME / "examples" / "dagster"


class WatchedAccount(Account):
    """An account that counts its reads; each of them begins with one request for lists."""

    failures = 0

    def __init__(self, offers: int) -> None:
        super().__init__(offers)
        self.requests = 0

    def records(self, kind: str) -> list[Record]:
        self.requests += 1
        if self.failures:
            raise RuntimeError("This account is out of order.")
        return super().records(kind)


@pytest.fixture
def accounts() -> dict[str, WatchedAccount]:
    return {name: WatchedAccount(offers=9 + number) for number, name in enumerate(ACCOUNTS)}


@pytest.fixture
def instance(
    accounts: dict[str, WatchedAccount], address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DagsterInstance]:
    """Dagster with the limits of the example, in a Meltano project with a plugin for each account."""
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copy(EXAMPLE / "dagster.yaml", home)
    with ExitStack() as stack:
        variables = {
            "DAGSTER_HOME": str(home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "*",
            "PATH": f"{MELTANO.parent}{os.pathsep}{os.environ['PATH']}",
            "TAP_TRACKLY_MAX_RETRIES": "0",
            "TARGET_POSTGRES_SQLALCHEMY_URL": address,
        }
        for name, account in accounts.items():
            variables[f"TAP_TRACKLY__{name.upper()}_API_KEY"] = API_KEY
            variables[f"TAP_TRACKLY__{name.upper()}_API_URL"] = stack.enter_context(running(account))
        project = Project(tmp_path, variables)
        project.add(*shown("examples/dagster/README.md", "yaml"))
        project.run("meltano state list")
        for name, value in {**variables, "MELTANO_PROJECT_ROOT": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        yield stack.enter_context(DagsterInstance.get())


def execute(instance: DagsterInstance, name: str | None = None) -> ExecuteInProcessResult:
    """Run the job, or the asset of one account."""
    job = definitions.resolve_job_def("trackly_hourly")
    selection: Any = None if name is None else [definitions.resolve_assets_def(["trackly", name]).key]
    return job.execute_in_process(instance=instance, asset_selection=selection, raise_on_error=False)


def events(result: ExecuteInProcessResult, kind: str) -> list[float]:
    return [event.timestamp for event in result.all_events if event.event_type_value == kind]


def offers(database: psycopg.Connection, schema: str) -> list[Any]:
    return database.execute(f"SELECT count(*), sum(payout) FROM {schema}.offers".encode()).fetchall()  # noqa: S608


def expected(account: Account) -> list[Any]:
    return [(len(account.offers), sum(offer["payout"] for offer in account.offers.values()))]


def test_accounts_are_loaded(
    instance: DagsterInstance, accounts: dict[str, WatchedAccount], database: psycopg.Connection
) -> None:
    result = execute(instance)
    assert result.success
    assert len(events(result, "ASSET_MATERIALIZATION")) == len(accounts)
    for name, account in accounts.items():
        assert offers(database, name) == expected(account)
