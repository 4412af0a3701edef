"""Validation of settings, state and catalog."""

from __future__ import annotations

import json
import os
import sys
from copy import deepcopy
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any

import click
import pytest

from tap_trackly.settings import (
    SettingsError,
    check,
    check_state,
    parse_catalog,
    parse_file,
    read_environment,
    unknown_settings,
)
from tap_trackly.tap import TapTrackly
from tests.fake_trackly import FakeTrackly
from tests.tap import run_tap, selecting

SECRET = "trk_5ecret0f4nAcc0unt"  # noqa: S105
SCHEMA = deepcopy(TapTrackly.config_jsonschema)
TapTrackly.append_builtin_config(SCHEMA)
STREAMS = ["offers", "lists"]


def refused(**settings: Any) -> str:
    """Check that settings are invalid and that the message hides the key; return the message."""
    with pytest.raises(SettingsError) as error:
        check({"api_key": SECRET, **settings}, SCHEMA)
    words = str(error.value)
    assert SECRET[:8] not in words
    assert "\n" not in words
    return words


@pytest.mark.parametrize(
    "key",
    [
        "",
        " ",
        "\n\t",
        f"{SECRET}\nX-Other: 1",
        f"{SECRET}\rx",
        f"ключ{SECRET}",
        f"{SECRET}☃",
        [SECRET],
        {SECRET: 1},
        735194682,
        10**400,
        True,
    ],
)
def test_invalid_api_key(key: Any) -> None:
    words = refused(api_key=key)
    assert words.startswith("Invalid setting api_key: expected the key from Settings > API Keys")
    assert "7351" not in words


@pytest.mark.parametrize("config", [{}, {"api_key": None}])
def test_missing_api_key(config: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"^Missing setting api_key: expected the key from Settings > API Keys"):
        check(config, SCHEMA)


WEB_ADDRESS = "an http or https URL"
HUGE = 10**400


@pytest.mark.parametrize(
    "name,value,words",
    [
        *(
            ("api_url", value, WEB_ADDRESS)
            for value in [
                "",
                "app.tracklysms.com/api/v2",
                "//app.tracklysms.com",
                "ftp://app.tracklysms.com",
                "https://",
                "https:///api/v2",
                "https://host:port/",
                "https://host:99999/",
                "https://host:65536",
                "http://[1]/",
                'https://host/"',
                "https://[::1/",
                "https://user:password@host/",
                "https://host/?page=1",
                "https://host/?",
                "https://host/#top",
                "https://host/a b",
                "https://ho\nst/",
                "https://höst/",
                5,
            ]
        ),
        *(("page_size", value, "an integer from 1 to 100") for value in [0, 101, "x", 1.5, True, HUGE, float("nan")]),
        *(("concurrency", value, "an integer from 1 to 32") for value in [0, 33, HUGE]),
        *(("max_retries", value, "an integer from 0 to 100") for value in [-1, 101, HUGE]),
        *(
            ("offer_statuses", value, "an array of one or more of active, paused, archived")
            for value in [[], ["deleted"], [None], "active"]
        ),
        *(("start_date", value, "an ISO 8601 date or time") for value in ["soon", "2025-02-30", "", 20250101]),
        *(
            ("full_resend_hours", value, "a non-negative number")
            for value in [-1, "-1", "inf", "nan", "x", "", True, [], HUGE]
        ),
        *(
            ("request_timeout", value, "a number above 0 and up to 3600")
            for value in [0, -1, 3601, "nan", float("inf"), HUGE]
        ),
        ("fail_if_incomplete", "maybe", "a boolean"),
        *(("user_agent", value, "one line of printable ASCII") for value in ["a\nb", "", "☃"]),
        ("stream_maps", {"offers": 5}, "stream_maps.html"),
        ("batch_config", {"encoding": {"format": "csv"}}, "batch.html"),
        ("flattening_max_depth", "1", "an integer"),
    ],
)
def test_invalid_setting(name: str, value: Any, words: str) -> None:
    message = refused(**{name: value})
    assert message.startswith(f"Invalid setting {name}: expected ")
    assert words in message


def test_missing_flattening_max_depth() -> None:
    assert refused(flattening_enabled=True) == ("Missing setting flattening_max_depth: required by flattening_enabled.")


@pytest.mark.parametrize(
    "name,value,checked",
    [
        ("api_key", f" {SECRET}\r\n", SECRET),
        ("api_url", "https://host:8443/api/v2/ ", "https://host:8443/api/v2/"),
        ("api_url", "http://[::1]:80", "http://[::1]:80"),
        ("api_url", "HTTPS://fake_api:8000", "HTTPS://fake_api:8000"),
        ("start_date", "2025-01-01", "2025-01-01T00:00:00+00:00"),
        ("start_date", "2025-01-01t12:00:00z", "2025-01-01T12:00:00+00:00"),
        ("start_date", "2025-01-01T12:00:00+02:00", "2025-01-01T10:00:00+00:00"),
        ("full_resend_hours", "0.5", 0.5),
        ("request_timeout", 3600, 3600.0),
        ("page_size", None, None),
        ("full_resend_hours", None, 24),
        ("offer_statuses", None, ["active", "paused", "archived"]),
        ("concurrency", 32, 32),
    ],
)
def test_valid_setting(name: str, value: Any, checked: Any) -> None:
    assert check({"api_key": SECRET, name: value}, SCHEMA).get(name) == checked


def test_defaults() -> None:
    defaults = {name: each["default"] for name, each in SCHEMA["properties"].items() if "default" in each}
    assert check({"api_key": SECRET}, SCHEMA) == {"api_key": SECRET, **defaults}


@pytest.mark.parametrize(
    "name,value",
    [
        ("page_size", "x"),
        ("page_size", ""),
        ("page_size", "9" * 5000),
        ("offer_statuses", "["),
        ("batch_config", "{"),
        ("stream_maps", '{"a":' * 100_000),
        ("fail_if_incomplete", "maybe"),
    ],
)
def test_invalid_environment_variable(name: str, value: str) -> None:
    message = refused(**read_environment(SCHEMA, {f"TAP_TRACKLY_{name.upper()}": value}))
    assert message.startswith(f"Invalid setting {name}: expected ")
    assert len(message) < 200


@pytest.mark.parametrize(
    "name,text,value",
    [
        ("api_key", f" {SECRET}", f" {SECRET}"),
        ("page_size", " 7 ", 7),
        ("full_resend_hours", "0.5", 0.5),
        ("offer_statuses", "active, paused", ["active", "paused"]),
        ("offer_statuses", ' ["archived"]', ["archived"]),
        ("fail_if_incomplete", "Yes", True),
        ("fail_if_incomplete", "0", False),
        ("stream_maps", '{"offers": null}', {"offers": None}),
    ],
)
def test_settings_from_environment(name: str, text: str, value: Any) -> None:
    environment = {
        f"TAP_TRACKLY_{name.upper()}": text,
        "TAP_TRACKLY_PAGE": "1",
        "PAGE_SIZE": "2",
        "TAP_TRACKLY_X": None,
    }
    assert read_environment(SCHEMA, environment) == {name: value, "page": "1"}


@pytest.mark.parametrize(
    "name,hint",
    [
        ("pagesize", " Did you mean page_size?"),
        ("api_ulr", " Did you mean api_url?"),
        ("apikey", " Did you mean api_key?"),
        ("zzz", ""),
    ],
)
def test_unknown_setting(name: str, hint: str) -> None:
    assert [*unknown_settings(["api_key", name], SCHEMA)] == [f"Unknown setting {name} is ignored.{hint}"]


def test_unknown_environment_variable() -> None:
    names = ["HOME", "TAP_TRACKLY_PAGESIZE", "TAP_TRACKLY_LOGLEVEL", "TAP_TRACKLY__SELECT", "TAP_TRACKLY_API_KEY"]
    settings = read_environment(SCHEMA, dict.fromkeys(names, "x"))
    assert [*unknown_settings(settings, SCHEMA)] == ["Unknown setting pagesize is ignored. Did you mean page_size?"]


def test_unknown_environment_variable_is_ignored(trackly: FakeTrackly) -> None:
    settings = trackly.config()
    variables = {
        "TAP_TRACKLY_API_KEY": settings["api_key"],
        "TAP_TRACKLY_API_URL": settings["api_url"],
        "TAP_TRACKLY_EMIT_ACTIVATE_VERSION_MESSAGES": "false",
    }
    run = run_tap(None, "--config=ENV", catalog=selecting("lists"), variables=variables)
    assert run.status == 0, run.log
    assert {message["type"] for message in run.messages} == {"SCHEMA", "RECORD", "STATE"}


STATE = {"bookmarks": {"offers": {"replication_key": "updated_at", "replication_key_value": "2025-01-01"}}}


@pytest.mark.parametrize(
    "state",
    [
        [],
        None,
        {"offers": {}},
        {"bookmarks": []},
        {"bookmarks": None},
        {"bookmarks": {"offers": "2025-01-01"}},
        {"bookmarks": {"offers": None}},
        {"bookmarks": {"offers": {"replication_key": "updated_at", "replication_key_value": "soon"}}},
        {"bookmarks": {"offers": {"replication_key": "updated_at", "replication_key_value": HUGE}}},
        {"type": "STATE", "value": STATE},
        {"singer_state": STATE},
        {"completed": {"singer_state": STATE}},
        {"bookmarks": {"orders": {"replication_key_value": "2025-01-01"}}},
    ],
)
def test_invalid_state(state: Any) -> None:
    with pytest.raises(SettingsError, match=r'^Invalid state file: .*STATE message of this tap.*{"bookmarks": '):
        check_state(state, STREAMS)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"bookmarks": {}},
        STATE,
        {"bookmarks": {"lists": {}}},
        {"bookmarks": {"offers": {"replication_key_value": None}, "retired": {}}},
    ],
)
def test_valid_state(state: Any) -> None:
    check_state(state, STREAMS)


ENTRY: dict[str, Any] = {
    "tap_stream_id": "offers",
    "stream": "offers",
    "schema": {"properties": {}},
    "metadata": [{"breadcrumb": [], "metadata": {}}],
}


@pytest.mark.parametrize(
    "catalog",
    [
        {},
        {"streams": None},
        {"streams": ["offers"]},
        *({"streams": [{**ENTRY, name: None}]} for name in ("tap_stream_id", "schema", "metadata")),
        *({"streams": [{key: ENTRY[key] for key in ENTRY if key != name}]} for name in ENTRY if name != "stream"),
        {"streams": [{**ENTRY, "schema": {"properties": []}}]},
        {"streams": [{**ENTRY, "metadata": [None]}]},
        {"streams": [{**ENTRY, "metadata": [{"metadata": {}}]}]},
        {"streams": [{**ENTRY, "metadata": [{"breadcrumb": []}]}]},
    ],
)
def test_invalid_catalog(catalog: Any) -> None:
    with pytest.raises(SettingsError, match=r"^Invalid catalog file: --catalog expects what --discover prints"):
        parse_catalog(catalog)


@pytest.mark.parametrize("stream,expected", [("offers", "updated_at"), ("lists", "none")])
@pytest.mark.parametrize("in_metadata", [False, True])
@pytest.mark.parametrize("key", ["created_at", ["updated_at"]])
def test_invalid_replication_key(stream: str, expected: str, in_metadata: bool, key: object) -> None:  # noqa: FBT001
    catalog = selecting(stream)
    (entry,) = (entry for entry in catalog["streams"] if entry["tap_stream_id"] == stream)
    (root,) = (each["metadata"] for each in entry["metadata"] if not each["breadcrumb"])
    if in_metadata:
        root["replication-key"] = key
    else:
        entry["replication_key"] = key
    with pytest.raises(SettingsError, match=rf"the replication key of stream '{stream}' is {expected}\.$"):
        TapTrackly(config={"api_key": SECRET}, catalog=parse_catalog(catalog))


@pytest.mark.parametrize("entries", [[], [ENTRY], [{key: ENTRY[key] for key in ENTRY if key != "stream"}]])
def test_valid_catalog(entries: list[Any]) -> None:
    assert len(parse_catalog({"streams": entries})) == len(entries)


@pytest.mark.parametrize("text", ["", "{", "not json", "null", "[]", '"x"', "[" * 100_000])
def test_invalid_json_file(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^Invalid state file: --state expects a JSON object\.$"):
        parse_file(StringIO(text), "state")


def test_valid_json_file() -> None:
    assert parse_file(StringIO('{"a": 1}'), "state") == {"a": 1}


def parsed_config(*names: str) -> Any:
    """Return what the SDK is given for values of --config."""
    return TapTrackly.cb_config(click.Context(click.Command("tap-trackly")), click.Option(["--config"]), names)


def config_failure(*names: str) -> str:
    """Return the message for config files that cannot be used."""
    with pytest.raises(SettingsError, match=r"^--config expects the path of a JSON file, or ENV; ") as failure:
        parsed_config(*names)
    return str(failure.value)


@pytest.mark.parametrize("text", ["", "{", "not json", "null", "1", "[]", '["ab"]', '"x"', "[" * 100_000])
def test_invalid_config_file(text: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    message = config_failure("ENV", str(file))
    assert str(file) in message
    assert "JSON" in message.partition(str(file))[2]
    assert "not json" not in message


def test_config_files_are_merged(tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("first.json", "second.json")]
    for name, content in zip(names, ('{"page_size": 1, "concurrency": 1}', '{"page_size": 2}'), strict=True):
        Path(name).write_text(content)
    given: Any = parsed_config(*names, "ENV")
    assert (given.config, given.parse_env) == ({"page_size": 2, "concurrency": 1}, True)


@pytest.mark.parametrize(
    "name,reason",
    [
        ("missing.json", "missing.json cannot be read: No such file or directory"),
        (".", ". cannot be read: Is a directory"),
        ("", " cannot be read: Is a directory"),
        ("nul\0", "cannot be read"),
    ],
)
def test_unreadable_config_file(name: str, reason: str) -> None:
    assert reason in config_failure(name)


@pytest.mark.parametrize("config", [f'{{"api_key": "{SECRET}"}}', f"api_key={SECRET}", SECRET, f"'{SECRET}'"])
def test_config_passed_as_file_name(config: str) -> None:
    assert "this value cannot be read" in config_failure(config)
    assert SECRET[:8] not in config_failure(config)


def test_config_is_read_once(trackly: FakeTrackly, tmp_path: Path) -> None:
    pipe = tmp_path / "config"
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_text, args=(json.dumps(trackly.config()),), daemon=True)
    writer.start()
    run = run_tap(None, f"--config={pipe}", catalog=selecting("offers"))
    assert (run.status, len(run.records)) == (0, 25), run.log


def test_invalid_setting_is_one_log_line() -> None:
    run = run_tap({"api_key": SECRET, "page_size": 0, "pagesize": 7})
    assert (run.status, run.stdout) == (1, "")
    assert SECRET[:8] not in run.log
    assert "Traceback" not in run.log
    (line,) = run.lines("ERROR")
    assert line.endswith("Invalid setting page_size: expected an integer from 1 to 100.")
    (line,) = run.lines("WARNING")
    assert line.endswith("Unknown setting pagesize is ignored. Did you mean page_size?")


def test_run_with_settings_from_environment(trackly: FakeTrackly) -> None:
    settings = trackly.config()
    variables = {
        "TAP_TRACKLY_API_KEY": f" {settings['api_key']}\n",
        "TAP_TRACKLY_API_URL": settings["api_url"],
        "TAP_TRACKLY_PAGE_SIZE": "7",
        "TAP_TRACKLY_FULL_RESEND_HOURS": "0.5",
        "TAP_TRACKLY_OFFER_STATUSES": '["archived"]',
        "TAP_TRACKLY_START_DATE": "2025-01-01",
        "TAP_TRACKLY_FAIL_IF_INCOMPLETE": "true",
    }
    run = run_tap(None, "--config=ENV", catalog=selecting("offers"), variables=variables)
    assert run.status == 0, run.log
    assert {record["status"] for record in run.records} == {"archived"}


def test_white_space_trailing_slash_and_nulls(trackly: FakeTrackly) -> None:
    settings = trackly.config()
    config = {
        "api_key": f"\t{settings['api_key']}\r\n",
        "api_url": f"{settings['api_url']}/ ",
        "page_size": None,
        "start_date": None,
    }
    run = run_tap(config, command=[sys.executable, "-m", "tap_trackly"])
    assert (run.status, len(run.records)) == (0, 25), run.log
