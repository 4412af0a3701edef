"""dbt builds the project on an account that Meltano has loaded."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from examples.dbt.write_sources import SOURCES
from sandbox.account import Account
from sandbox.api import API_KEY
from sandbox.server import running
from tests.project import HOME, Project, shown
from tests.tap import STREAMS, environment

DBT = Path(sys.executable).with_name("dbt")
Dbt = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def loaded(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a database with an account, contacts included."""
    with running(Account(offers=250)) as url:
        project = Project(
            tmp_path_factory.mktemp("meltano"),
            {
                "TAP_TRACKLY_API_KEY": API_KEY,
                "TAP_TRACKLY_API_URL": url,
                "TAP_TRACKLY__SELECT": '["*.*"]',
                "TARGET_POSTGRES_SQLALCHEMY_URL": address,
            },
        )
        project.run("meltano run tap-trackly target-postgres")
        yield address


@pytest.fixture
def dbt(loaded: str, tmp_path: Path) -> Dbt:
    """Runs dbt in a copy of the project."""
    folder = tmp_path / "dbt"
    shutil.copytree(SOURCES.parent.parent, folder, ignore=shutil.ignore_patterns("target", "logs"))
    url = urlsplit(loaded)
    variables = {"PGHOST": parse_qs(url.query)["host"][0], "PGUSER": str(url.username), "PGDATABASE": url.path[1:]}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [DBT, "--no-use-colors", *arguments, "--profiles-dir", ".", "--vars", "trackly_contacts: true"],
            cwd=folder,
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )

    return run


def test_installed_versions() -> None:
    install = shown("examples/dbt/README.md", "sh")[0].splitlines()[0]
    required = (HOME / "requirements" / "examples.in").read_text()
    for package in re.findall("'(.+?)'", install):
        assert re.search(rf"^{re.escape(package)}( |$)", required, re.MULTILINE)


def test_parse_without_warnings(dbt: Dbt) -> None:
    parsed = dbt("--warn-error", "parse")
    assert parsed.returncode == 0, parsed.stdout


def test_build(dbt: Dbt, database: psycopg.Connection) -> None:
    built = dbt("build")
    assert built.returncode == 0, built.stdout
    done = re.search(r"PASS=(\d+) WARN=0 ERROR=0", built.stdout)
    assert done, built.stdout
    assert int(done[1]) >= 19  # a view, and the tests
    assert database.execute("SELECT count(*) > 0 FROM analytics.scheduled_offers").fetchone() == (True,)
    fresh = dbt("source", "freshness")
    assert fresh.returncode == 0, fresh.stdout
    assert fresh.stdout.count("PASS freshness of trackly.") == len(STREAMS)


def test_faults_are_found(dbt: Dbt, database: psycopg.Connection) -> None:
    with database.transaction():
        database.execute("ALTER TABLE trackly.offers DROP CONSTRAINT offers_pkey")
        database.execute("ALTER TABLE trackly.contacts DROP CONSTRAINT contacts_pkey")
        database.execute("INSERT INTO trackly.offers SELECT * FROM trackly.offers WHERE status = 'paused' LIMIT 1")
        database.execute("INSERT INTO trackly.contacts SELECT * FROM trackly.contacts LIMIT 1")
        database.execute("UPDATE trackly.lists SET status = 'sold' WHERE status = 'deleted'")
        database.execute("UPDATE trackly.audiences SET _sdc_extracted_at = now() - interval '3 days'")
    tested = dbt("test")
    assert tested.returncode == 1
    assert re.search("WARN=1 ERROR=2", tested.stdout), tested.stdout
    for name in "unique_trackly_offers_id", "unique_together_trackly_contacts", "accepted_values_trackly_lists_status":
        assert name in tested.stdout
    fresh = dbt("source", "freshness")
    assert fresh.returncode == 1
    assert "ERROR STALE freshness of trackly.audiences" in fresh.stdout
