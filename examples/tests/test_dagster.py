"""Dagster loads two accounts in process."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
from dagster import AssetKey, DagsterEventType, DagsterInstance, ExecuteInProcessResult
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from examples.dagster.definitions import ACCOUNTS, definitions
from sandbox.account import Account
from sandbox.api import API_KEY
from sandbox.samples import Record
from sandbox.server import running
from tests.project import HOME, MELTANO, Project, shown

EXAMPLE = HOME / "examples" / "dagster"
DAGSTER = Path(sys.executable).with_name("dagster")


class FailingAccount(Account):
    """An account that answers a number of requests with an error."""

    failures = 0

    def records(self, kind: str) -> list[Record]:
        if self.failures:
            self.failures -= 1
            raise HTTPException(response=Response("Out of order", 503))
        return super().records(kind)


@pytest.fixture
def accounts() -> dict[str, FailingAccount]:
    return {name: FailingAccount(offers=9 + number) for number, name in enumerate(ACCOUNTS)}


@pytest.fixture
def instance(
    accounts: dict[str, FailingAccount], address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DagsterInstance]:
    """Dagster with the limits of the example, in a Meltano project with a plugin for each account."""
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copy(EXAMPLE / "dagster.yaml", home)
    with ExitStack() as stack:
        variables = {
            "DAGSTER_HOME": str(home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "TAP_TRACKLY_MAX_RETRIES": "0",
            "TARGET_POSTGRES_SQLALCHEMY_URL": address,
        }
        for name, account in accounts.items():
            variables[f"TAP_TRACKLY__{name.upper()}_API_KEY"] = API_KEY
            variables[f"TAP_TRACKLY__{name.upper()}_API_URL"] = stack.enter_context(running(account))
        project = Project(tmp_path, variables)
        project.add(*shown("examples/dagster/README.md", "yaml"))
        project.run("meltano state list")
        for name, value in {**variables, "MELTANO_PROJECT_ROOT": str(tmp_path), "NO_PROXY": "*"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PATH", str(MELTANO.parent), prepend=os.pathsep)
        yield stack.enter_context(DagsterInstance.get())


def execute(instance: DagsterInstance, *names: str) -> ExecuteInProcessResult:
    """Load accounts."""
    job = definitions.resolve_job_def("trackly_hourly")
    keys = [AssetKey(["trackly", name]) for name in names]
    return job.execute_in_process(instance=instance, asset_selection=keys, raise_on_error=False)


def count(result: ExecuteInProcessResult, kind: DagsterEventType) -> int:
    return sum(event.event_type == kind for event in result.all_events)


def offers(database: psycopg.Connection, schema: str) -> list[Any]:
    return database.execute(f"SELECT count(*), sum(payout) FROM {schema}.offers".encode()).fetchall()  # noqa: S608


def expected(account: Account) -> list[Any]:
    return [(len(account.offers), sum(offer["payout"] for offer in account.offers.values()))]


def test_accounts_are_loaded(
    instance: DagsterInstance, accounts: dict[str, FailingAccount], database: psycopg.Connection
) -> None:
    acme, *_ = accounts.values()
    acme.failures = 1
    result = execute(instance, *accounts)
    assert result.success
    assert count(result, DagsterEventType.STEP_UP_FOR_RETRY) == 1
    assert count(result, DagsterEventType.ASSET_MATERIALIZATION) == len(accounts)
    assert acme.failures == 0
    for name, account in accounts.items():
        assert offers(database, name) == expected(account)


def test_runs_of_an_account_do_not_overlap(instance: DagsterInstance) -> None:
    assert execute(instance, "acme").success  # creates the pool, so that two processes do not create it at once
    first = {run.run_id for run in instance.get_runs()}
    command: list[str | Path] = [
        DAGSTER,
        "asset",
        "materialize",
        "--select",
        "trackly/acme",
        "-f",
        EXAMPLE / "definitions.py",
    ]
    runs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8") for _ in range(2)
    ]
    for run in runs:
        log, _ = run.communicate(timeout=300)
        assert run.returncode == 0, log
    steps = [
        event
        for run in instance.get_runs()
        if run.run_id not in first
        for event in instance.all_logs(
            run.run_id,
            of_type={DagsterEventType.STEP_UP_FOR_RETRY, DagsterEventType.STEP_START, DagsterEventType.STEP_SUCCESS},
        )
    ]
    kinds = [event.dagster_event.event_type for event in sorted(steps, key=lambda event: event.timestamp)]
    assert kinds == [DagsterEventType.STEP_START, DagsterEventType.STEP_SUCCESS] * 2


def test_assets_of_the_list(
    instance: DagsterInstance, accounts: dict[str, FailingAccount], database: psycopg.Connection
) -> None:
    (command,) = (block for block in shown("examples/dagster/README.md", "sh") if "materialize" in block)
    path = f"{DAGSTER.parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        ["/bin/bash", "-ec", command], cwd=EXAMPLE, env={**os.environ, "PATH": path}, check=True, timeout=300
    )
    assert len(instance.get_runs()) == 1
    for name, account in accounts.items():
        assert offers(database, name) == expected(account)


LOADED = """{
  assetNodes {assetKey {path}}
  repositoriesOrError {... on RepositoryConnection {nodes {schedules {name scheduleState {status}}}}}
}"""


@pytest.mark.usefixtures("instance")
def test_web_interface(tmp_path: Path) -> None:
    (command,) = (line for line in shown("examples/dagster/README.md", "sh")[0].splitlines() if "dagster dev" in line)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [DAGSTER, *command.split()[1:], "--host", "127.0.0.1", "--port", str(port)],
            cwd=EXAMPLE,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        answer = ask(f"http://127.0.0.1:{port}/graphql", LOADED, process)
        assert answer is not None, log.read_text()
        assert [node["assetKey"]["path"] for node in answer["assetNodes"]] == [["trackly", name] for name in ACCOUNTS]
        (repository,) = answer["repositoriesOrError"]["nodes"]
        assert [schedule["scheduleState"]["status"] for schedule in repository["schedules"]] == ["RUNNING"]
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # with the web server, the daemon and the code server
        process.wait()


def ask(url: str, query: str, server: subprocess.Popen[bytes]) -> Any:
    """Return the answer of a server, which is asked until it has started; None if it ends or takes two minutes."""
    deadline = time.monotonic() + 120
    while server.poll() is None and time.monotonic() < deadline:
        try:
            return requests.post(url, json={"query": query}, timeout=30).json()["data"]
        except requests.ConnectionError:
            time.sleep(0.5)
    return None
