"""Runs the code blocks of the pages in docs/."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from sandbox.account import Account
from sandbox.api import API_KEY
from sandbox.samples import Record
from sandbox.server import running
from tap_trackly.tap import TapTrackly
from tests.project import HOME, Project, shown
from tests.tap import STREAMS


@pytest.fixture
def account() -> Account:
    return Account(offers=12, contacts=10)


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
        project.run(f"meltano state list\n{keys}{side_by_side}")
        for schema, held in ("acme", account), ("globex", globex):
            assert rows(database, f"SELECT count(*), sum(payout) FROM {schema}.offers") == [offers_of(held)]  # noqa: S608
        states = project.run("meltano state list").splitlines()
        assert {"dev:tap-trackly--acme-to-target-postgres", "dev:tap-trackly--globex-to-target-postgres"} <= {*states}

        project.add(one_schema)
        project.run(keys + in_turn)
        assert rows(database, question) == [("acme", *offers_of(account)), ("globex", *offers_of(globex))]

    shared = yaml.safe_load(one_schema)["plugins"]["extractors"][0]["config"]["stream_maps"]
    assert {*shared, "contacts"} == {stream.name for stream in TapTrackly(validate_config=False).streams.values()}
    project.run("meltano run tap-trackly target-postgres")
    assert "Invalid setting stream_maps" in project.run("meltano run tap-trackly--accounts target-jsonl", status=1)


def test_history(project: Project, account: Account, database: psycopg.Connection) -> None:
    page = "docs/history.md"
    (load,), (question,) = shown(page, "sh"), shown(page, "sql")
    project.add(*shown(page, "yaml"))
    promo, sale = list(account.offers)[:2]
    account.offers[promo].update(payout=Decimal("2.50"), updated_at="2026-01-01T00:00:00Z")
    project.run(load)
    account.offers[promo].update(payout=Decimal("3.25"), updated_at="2026-06-01T11:59:59Z")
    project.run(load)
    account.offers[promo].update(payout=Decimal("4.00"), updated_at="2026-06-01T12:00:01Z")
    account.offers[sale].update(status="archived")  # updated_at stays, so only a full resend emits it
    project.run(f"export TAP_TRACKLY__HISTORY_FULL_RESEND_HOURS=0\n{load}")

    then = {row[0]: row[2:] for row in rows(database, question)}
    assert set(then) == set(account.offers)
    assert then[promo] == (Decimal("3.25"), "active")
    assert then[sale][1] == "archived"
    before = {row[0]: row[2:] for row in rows(database, question.replace("2026-06-01", "2026-01-01"))}
    assert before[promo] == (Decimal("2.50"), "active")
    assert rows(database, "SELECT count(*) FROM trackly_history.offers") == [(len(account.offers) + 3,)]


def test_phone_numbers_are_hashed(project: Project, account: Account, database: psycopg.Connection) -> None:
    page = "docs/personal-data.md"
    project.add(*shown(page, "yaml"))
    load = shown(page, "sh")[0].splitlines()[-1]
    for without_key in "unset PHONE_HASH_KEY", "export PHONE_HASH_KEY=":
        assert "Invalid setting stream_maps" in project.run(f"{without_key}\n{load}", status=1)
    log = project.run("\n".join(shown(page, "sh")).replace("$(openssl rand -hex 32)", "secret"))
    hashes = {
        (contact["list_id"], sha256(f"secret{contact['phone_number']}".encode()).hexdigest())
        for contact in account.contacts
    }
    assert set(rows(database, "SELECT list_id, phone_hash FROM trackly.contacts")) == hashes
    columns = (
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'trackly' AND table_name = 'contacts'"
    )
    assert not {"phone_number", "custom_fields"} & {name for (name,) in rows(database, columns)}
    assert account.contacts[0]["phone_number"][-7:] not in log


def test_new_contacts(project: Project, account: Account, database: psycopg.Connection) -> None:
    database.execute("DROP SCHEMA IF EXISTS trackly CASCADE")  # which has contacts with another key
    page = "docs/contacts.md"
    for block in shown(page, "yaml"):
        project.add(block)
    every_hour, every_night = shown(page, "sh")[0].splitlines()
    project.run(every_hour)
    account.contacts[-1]["active"] = not account.contacts[-1]["active"]
    first = account.contacts[0]
    account.contacts.insert(0, {**first, "phone_number": "+19175550100", "signup_date": "2026-11-01T00:00:00"})
    assert "contacts: done, 11 records read, 2 emitted" in project.run(every_hour)
    phone = account.contacts[-1]["phone_number"]
    query = f"SELECT active FROM trackly.contacts WHERE phone_number = '{phone}'"  # noqa: S608
    stale = rows(database, query)
    assert "11 emitted" in project.run(every_night)
    assert rows(database, query) != stale
    assert rows(database, "SELECT count(*) FROM trackly.contacts") == [(11,)]


class RestlessAccount(Account):
    """An account that gets a new offer with each request for offers."""

    def records(self, kind: str) -> list[Record]:
        if kind == "offers":
            self.create({"name": "New"})
        return super().records(kind)


@pytest.mark.parametrize("account", [RestlessAccount(offers=3)])
def test_incomplete_run(project: Project, database: psycopg.Connection) -> None:
    page = "docs/monitoring.md"
    fail_if_incomplete = shown(page, "sh")[0]
    log = project.run(fail_if_incomplete, status=1)
    assert log.count(shown(page, "text")[0].removesuffix("...\n")) == 1
    for text in re.findall(r"^\| `(.+?)` \|", (HOME / page).read_text(), re.MULTILINE):
        assert (text in log) == (text != "Loader failed")
    state = json.loads(
        project.run("meltano state get dev:tap-trackly-to-target-postgres 2> /dev/null").splitlines()[-1]
    )
    bookmarks = state["singer_state"]["bookmarks"]
    assert "replication_key_value" in bookmarks["schedules"]
    assert "replication_key_value" not in bookmarks["offers"]
    assert rows(database, "SELECT count(*) >= 3 FROM trackly.offers") == [(True,)]


def test_api_key_check(project: Project) -> None:
    check = shown("docs/troubleshooting.md", "sh")[0]
    log = project.run(check)
    assert "Plugin configuration is valid" in log
    assert "offers: OK, 12 records" in log
    assert "contacts" not in log
    project.variables["TAP_TRACKLY_API_KEY"] = "trk_revoked"
    assert "Check the setting api_key" in project.run("meltano invoke tap-trackly --test", status=1)


def test_traceback(project: Project) -> None:
    project.variables["TAP_TRACKLY_API_KEY"] = "trk_revoked"
    log = project.run(shown("docs/troubleshooting.md", "sh")[1], status=1)
    assert re.search(r"Traceback:.*File .*client\.py", log, re.DOTALL)


def test_array_in_the_environment(project: Project) -> None:
    row = next(line for line in (HOME / "docs/troubleshooting.md").read_text().splitlines() if "JSON array" in line)
    message, wrong, right = re.findall(r"`([^`]*active[^`]*|TAP_TRACKLY_OFFER_STATUSES)`", row)
    run = "meltano run tap-trackly target-postgres"
    assert message in project.run(f"export {wrong}=active; {run}", status=1)
    assert "all complete" in project.run(f"export {right}; {run}")


def test_missing_database(project: Project) -> None:
    row = next(line for line in (HOME / "docs/troubleshooting.md").read_text().splitlines() if "createdb" in line)
    message, *_ = re.findall(r"`(.+?)`", row)
    for url in (
        re.sub("/postgres\\b", "/missing", project.variables["TARGET_POSTGRES_SQLALCHEMY_URL"]),
        "postgresql://127.0.0.1:9/",
    ):
        project.variables["TARGET_POSTGRES_SQLALCHEMY_URL"] = url
        log = project.run("meltano run tap-trackly target-postgres", status=1)
        (line,) = (line for line in log.splitlines() if "[error" in line and "target-postgres" in line)
        assert message in line
        assert ("does not exist" in line) == ("missing" in url)


def test_deselecting(project: Project) -> None:
    project.add(*shown("docs/troubleshooting.md", "yaml"))
    log = project.run("meltano run tap-trackly target-postgres")
    assert set(re.findall(r"(\w+): done", log)) == {"offers", "lists", "creatives", "schedules"}


def test_metrics_and_json_logs(project: Project) -> None:
    page = "docs/monitoring.md"
    logging, plugin = shown(page, "yaml")
    _, with_meltano, without_meltano = shown(page, "sh")
    (project.folder / "tap-logging.yml").write_text(logging)
    project.add(plugin)
    metrics = project.folder / "metrics.jsonl"
    metric_of_the_tap = r"\] tap-trackly .*METRIC|\"name\": \"tap-trackly\".*METRIC"

    project.run(f"export PATH={Path(sys.executable).parent}:$PATH\n{without_meltano}")
    written = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert {line["metric_info"]["tags"]["stream"] for line in written} == {*STREAMS} - {"contacts"}
    log = [json.loads(line) for line in (project.folder / "log.jsonl").read_text().splitlines()]
    assert "Run finished" in log[-1]["message"]
    assert not [line for line in log if "METRIC" in line["message"]]

    metrics.unlink()
    output = project.run(with_meltano)
    assert len(metrics.read_text().splitlines()) >= len(written)
    assert output.count("Run finished") == 2
    assert not re.search(metric_of_the_tap, output)

    metrics.unlink()
    config = yaml.safe_load(logging)
    del config["handlers"]["metrics"]
    config["loggers"]["singer_sdk.metrics"]["handlers"] = []
    (project.folder / "tap-logging.yml").write_text(yaml.safe_dump(config))
    assert not re.search(metric_of_the_tap, project.run("meltano run tap-trackly target-postgres"))
    assert not metrics.exists()


def test_upgrade_and_full_load(project: Project, account: Account, database: psycopg.Connection) -> None:
    page = "docs/upgrading.md"
    upgrade, full_load = shown(page, "sh")
    run = upgrade.splitlines()[-1]
    project.add("plugins: {extractors: [{name: tap-trackly, load_schema: upgraded}]}")
    earlier = ["*.*", "!contacts.*", "!lists.*", "!offers.tracking_url", "!audiences.filter"]
    project.run(f"export TAP_TRACKLY__SELECT='{json.dumps(earlier)}'; {run}")
    project.run(run)
    urls = {(offer["id"], offer["tracking_url"]) for offer in account.offers.values()}
    assert set(rows(database, "SELECT id, tracking_url FROM upgraded.offers")) == urls
    assert rows(database, "SELECT count(*) FROM upgraded.audiences WHERE filter IS NULL") == [(0,)]
    assert rows(database, "SELECT count(*) FROM upgraded.lists") == [(len(account.lists),)]

    database.execute("DROP SCHEMA upgraded CASCADE")
    project.run(run)
    assert rows(database, "SELECT count(*) FROM upgraded.offers") < [(len(account.offers),)]
    project.run(full_load)
    assert rows(database, "SELECT count(*), sum(payout) FROM upgraded.offers") == [offers_of(account)]


def test_batches(project: Project, account: Account, database: psycopg.Connection) -> None:
    project.add(*shown("docs/targets.md", "yaml"))
    project.add("plugins: {extractors: [{name: tap-trackly, load_schema: batches}]}")
    project.run("meltano run tap-trackly target-postgres")
    assert list((project.folder / "output/batches").glob("*offers*"))
    assert rows(database, "SELECT count(*), sum(payout) FROM batches.offers") == [offers_of(account)]
