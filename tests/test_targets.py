"""Targets load the same rows with the settings of meltano.yml as with their defaults, also for awkward values."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Iterator, Mapping
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg.rows import dict_row

from sandbox.account import Account
from sandbox.database import postgres
from sandbox.samples import Record
from tests.fake_trackly import FakeTrackly
from tests.servers import serving
from tests.tap import STREAMS, environment, selecting

PROJECT = Path(__file__).parent.parent
LOADERS = {
    loader["name"]: loader for loader in yaml.safe_load((PROJECT / "meltano.yml").read_text())["plugins"]["loaders"]
}
SAME_AS_DEFAULT = ("validate_records",)
"""The settings in meltano.yml that must not change any row."""

TEXTS = (
    "",
    None,
    "'single' \"double\" `back` ''",
    "back\\slash \\n \\N \\. \\",
    "line\nreturn\r\nend\r",
    "tab\tand\vfeed\f",
    "separators \u2028 \u2029 \x85 \x1f",
    "long " * 10_000,
    "👩‍👩‍👧 🎉 Größe e\u0301 \ufeff \U0010ffff",
    "null",
    " spaces ",
    "comma, semicolon; {braces} [brackets] %s %(id)s $1 :name ?",
)
AMOUNTS = tuple(map(Decimal, ("1000000000000000.25", "2.50", "-0.01", "12345678901234567890.123456789", "0", "7")))
NESTED: dict[str, Any] = {
    "": "",
    "a.b": {"$ref": [None, True, 1, "x\u2028", {"deep": [[]]}]},
    'quote" \\': "'\t\n",
    "größe 🎉": None,
    "name " * 50: Decimal("1.5"),
    "_sdc_deleted_at": {},
}


def awkward_account(turn: int) -> Account:
    """Return an account whose fields have awkward values, different ones in each turn."""
    account = Account(offers=40, contacts=60)
    for stream in STREAMS:
        for row, record in enumerate(account.records(stream)):
            for column, (name, value) in enumerate(record.items()):
                if name not in {"id", "status", "phone_number"} and not is_time(name):
                    record[name] = awkward(value, turn + row + column)
    return account


def is_time(name: str) -> bool:
    return name.endswith("_at") or name == "signup_date"


def awkward(value: Any, number: int) -> Any:
    """Return an awkward value of the same type."""
    if isinstance(value, str):
        return TEXTS[number % len(TEXTS)]
    if isinstance(value, Decimal):
        return AMOUNTS[number % len(AMOUNTS)]
    if isinstance(value, dict):
        return {**NESTED, "number": number}
    if isinstance(value, list):
        return [item if isinstance(item, int) else awkward(item, number) or "" for item in value]
    return value


@pytest.fixture(scope="module")
def messages() -> list[str]:
    """The messages of the tap for an account, before and after a change of every record."""
    account = Account(offers=0)
    with serving(FakeTrackly(account)) as trackly:
        runs = []
        for turn in (0, 1):
            vars(account).update(vars(awkward_account(turn)))
            runs.append(trackly.sync(catalog=selecting(*STREAMS)).stdout)
    return runs


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as address:
        yield address


def load(name: str, messages: str, settings: Mapping[str, Any], folder: Path) -> None:
    """Load messages with an installed target."""
    config = folder / "config.json"
    config.write_text(json.dumps(settings))
    target = PROJECT / ".meltano" / "loaders" / name / "venv" / "bin" / name
    finished = subprocess.run(
        [target, "--config", config],
        input=messages,
        env=environment(**LOADERS[name].get("env", {})),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr


def test_postgres_same_rows_as_with_defaults(messages: list[str], server: str, tmp_path: Path) -> None:
    tables = []
    for schema, settings in {"configured": LOADERS["target-postgres"]["config"], "defaults": {}}.items():
        for turn in messages:
            load(
                "target-postgres",
                turn,
                {**settings, "sqlalchemy_url": server, "default_target_schema": schema},
                tmp_path,
            )
        tables.append({stream: rows(server, f"{schema}.{stream}") for stream in STREAMS})
    configured, defaults = tables
    assert configured == defaults

    account = awkward_account(turn=1)
    for stream in STREAMS:
        truth = {key(record): record for record in account.records(stream)}
        assert [key(row) for row in configured[stream]] == sorted(truth)
        for row in configured[stream]:
            # Fields that the API leaves out are null.
            assert not {name for name in row if not is_time(name) and row[name] != truth[key(row)].get(name)}


def rows(server: str, table: str) -> list[Record]:
    """Return the rows of a table, without the target's own columns."""
    with psycopg.connect(server, row_factory=dict_row) as connection:
        found = connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608
    return sorted(({name: row[name] for name in row if not name.startswith("_sdc_")} for row in found), key=key)


def key(record: Record) -> str:
    return f"{record.get('id')} {record.get('list_id')} {record.get('phone_number')}"


def test_csv_same_rows_as_with_defaults(messages: list[str], tmp_path: Path) -> None:
    configured = LOADERS["target-csv"]["config"]
    defaults = {name: value for name, value in configured.items() if name not in SAME_AS_DEFAULT}
    files = []
    for number, settings in enumerate((configured, defaults)):
        output = tmp_path / str(number)
        for turn in messages:
            load("target-csv", turn, {**settings, "output_path": str(output)}, tmp_path)
        files.append([(path.name.split("-")[0], csv_rows(path)) for path in sorted(output.iterdir())])
    assert files[0] == files[1]
    assert len(files[0]) == len(STREAMS) * len(messages)


def csv_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a file, without the target's own columns."""
    read = csv.DictReader(StringIO(path.read_bytes().decode()))
    return [{name: row[name] for name in row if not name.startswith("_sdc_")} for row in read]
