"""Settings are validated by the SDK; the message names the setting, and never shows the API key."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from singer_sdk.exceptions import ConfigurationError

from tap_trackly.input_files import setting_errors
from tap_trackly.tap import TapTrackly
from tests.fake_trackly import FakeTrackly
from tests.tap import run_tap, selecting

SECRET = "trk_5ecret0f4nAcc0unt"  # noqa: S105
SCHEMAS = {"offers": ["id", "name", "metadata"], "lists": ["id", "title"]}


def refused(**config: Any) -> str:
    """Check that settings are invalid and that the message hides the key; return the message."""
    with pytest.raises(ConfigurationError, match=r"^Invalid setting") as error:
        TapTrackly(config=config)
    words = str(error.value)
    assert SECRET[:8] not in words
    assert "\n" not in words
    return words


@pytest.mark.parametrize("config", [{}, {"api_key": None}, {"page_size": 7}])
def test_missing_api_key(config: dict[str, Any]) -> None:
    assert refused(**config) == "Invalid settings: 'api_key' is a required property."


@pytest.mark.parametrize("key", [[SECRET], {SECRET: 1}, 735194682, 10**400, True])
def test_invalid_api_key(key: Any) -> None:
    assert refused(api_key=key) == "Invalid settings: api_key is not valid: API key, from Settings > API Keys."


@pytest.mark.parametrize(
    "url",
    [
        "",
        "app.tracklysms.com/api/v2",
        "//app.tracklysms.com",
        "ftp://app.tracklysms.com",
        "https://",
        "https:///api/v2",
        "https://host:port/",
        'https://host"/',
        f"https://{SECRET}:password@host/",
        f"https://host/?key={SECRET}",
        "https://host/?",
        "https://host/#top",
        "https://host/a b",
        "https://ho\nst/",
        5,
    ],
)
def test_invalid_api_url(url: Any) -> None:
    expected = "Invalid settings: api_url is not valid: HTTP(S) URL without user and query."
    assert refused(api_key=SECRET, api_url=url) == expected


@pytest.mark.parametrize("name", ["api_url", "user_agent"])
@pytest.mark.parametrize("value", ["https://host/\n", "https://host/\nX-Header: 1"])
def test_newline_in_a_variable(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"TAP_TRACKLY_{name.upper()}", value)
    with pytest.raises(ConfigurationError, match=name):
        TapTrackly(config={"api_key": SECRET}, parse_env_config=True)


def test_variable_that_is_not_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAP_TRACKLY_PAGE_SIZE", "many")
    with pytest.raises(ConfigurationError, match=r"^Invalid settings: .*'many' in the environment\.$"):
        TapTrackly(config={"api_key": SECRET}, parse_env_config=True)


@pytest.mark.parametrize(
    "url", ["http://[::1]:80", "http://fake_api:8000", "https://host:8443/api/v2/", "https://h/v2"]
)
def test_valid_api_url(url: str) -> None:
    assert TapTrackly(config={"api_key": SECRET, "api_url": url}).config["api_url"] == url


@pytest.mark.parametrize(
    "name,value",
    [
        *(("page_size", value) for value in [0, 101, "x", "7", 1.5, True, 10**400, float("nan")]),
        *(("concurrency", value) for value in [0, 33]),
        *(("max_retries", value) for value in [-1, 101]),
        *(("offer_statuses", value) for value in [[], ["deleted"], [None], "active"]),
        *(("start_date", value) for value in ["soon", "2025-02-30", "", 20250101]),
        *(("full_resend_hours", value) for value in [-1, 8761, 0.5, "", True, []]),
        *(("request_timeout", value) for value in [0, 3601, 0.5, "60"]),
        ("fail_if_incomplete", "maybe"),
        *(("user_agent", value) for value in [5, "", "tap\nX-Header: 1", "☃"]),
        ("stream_maps", {"offers": 5}),
        ("stream_map_config", SECRET),
        ("batch_config", {"encoding": {"format": "csv"}}),
        ("flattening_max_depth", "1"),
    ],
)
def test_invalid_setting(name: str, value: Any) -> None:
    assert name in refused(api_key=SECRET, **{name: value})


def test_every_invalid_setting_is_named() -> None:
    words = refused(api_key=SECRET, page_size=0, concurrency=99)
    assert "page_size" in words
    assert "concurrency" in words


def test_missing_flattening_max_depth() -> None:
    assert "flattening_max_depth is required" in refused(api_key=SECRET, flattening_enabled=True)


def test_batches_of_mapped_streams() -> None:
    batches = {"encoding": {"format": "jsonl"}, "storage": {"root": "file:///tmp"}}
    for name, value in [("stream_maps", {"offers": None}), ("flattening_enabled", True)]:
        more = {"flattening_max_depth": 1, "batch_config": batches, name: value}
        assert "batch_config: it cannot be combined with stream_maps or flattening_enabled" in refused(
            api_key=SECRET, **more
        )


def test_nulls_are_settings_that_are_not_set() -> None:
    names = [name for name in TapTrackly.config_jsonschema["properties"] if name != "api_key"]
    defaults = TapTrackly(config={"api_key": SECRET}).config
    assert TapTrackly(config={"api_key": SECRET, **dict.fromkeys(names)}).config == defaults
    assert (defaults["full_resend_hours"], defaults["concurrency"], defaults["max_retries"]) == (24, 8, 5)
    assert (defaults["request_timeout"], defaults["fail_if_incomplete"]) == (60, False)
    assert not {"page_size", "start_date"} & defaults.keys()


def unknown(name: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings for a setting."""
    TapTrackly(config={"api_key": SECRET, name: 5})
    return [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]


def test_misspelt_api_key(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigurationError, match="'api_key' is a required property"):
        TapTrackly(config={"apikey": SECRET})
    assert "Unknown setting apikey is ignored. Did you mean api_key?" in caplog.messages


@pytest.mark.parametrize(
    "name,similar",
    [("pagesize", "page_size"), ("api_ulr", "api_url"), ("apikey", "api_key"), ("start-date", "start_date")],
)
def test_unknown_setting(name: str, similar: str, caplog: pytest.LogCaptureFixture) -> None:
    assert unknown(name, caplog) == [f"Unknown setting {name} is ignored. Did you mean {similar}?"]


@pytest.mark.parametrize("name", ["page_size", "_select", "loglevel", "emit_activate_version_messages"])
def test_known_setting(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert unknown(name, caplog) == []


@pytest.mark.parametrize(
    "maps,words",
    [
        ({"ofers": {}}, ["stream 'ofers'. Did you mean offers?"]),
        ({"ofers": None, "list": None}, ["stream 'ofers'. Did you mean offers?", "'list'. Did you mean lists?"]),
        ({"deals": {"__source__": "offer"}}, ["unknown stream 'offer'. Did you mean offers?"]),
        ({"offers": {"__filtr__": "1"}}, ["field '__filtr__' of stream 'offers'. Did you mean __filter__?"]),
        ({"offers": {"__else": None}}, ["field '__else' of stream 'offers'. Did you mean __else__?"]),
        ({"offers": {"metadata__geo": None}}, ["field 'metadata__geo' of stream 'offers'. Did you mean metadata?"]),
        ({"offers": {}, "*": {}}, ["of 'offers' and '*', only the last one would apply to stream 'offers'"]),
        ({"offers": {"nam": None}}, ["field 'nam' of stream 'offers'. Did you mean name?"]),
        ({"offers": {"title": "__NULL__"}}, ["field 'title' of stream 'offers'"]),
        ({"*": {"titel": None}}, ["field 'titel' of stream '*'. Did you mean title?"]),
        ({"deals": {"__source__": "offers", "nam": None}}, ["field 'nam' of stream 'deals'"]),
    ],
)
def test_misspelt_names_in_stream_maps(maps: dict[str, Any], words: list[str]) -> None:
    errors = [*setting_errors({"stream_maps": maps}, SCHEMAS)]
    assert len(errors) == len(words)
    assert all(each in error for error, each in zip(errors, words, strict=True))


@pytest.mark.parametrize(
    "maps",
    [
        {},
        {"__else__": None},
        {"offers": None, "lists": "__NULL__"},
        {"offers": {"name": None, "new": "name.upper()", "__filter__": "id != '1'", "__key_properties__": None}},
        {"*": {"title": None}},
        {"li*": {"title": "__NULL__"}},
        {"deals": {"__source__": "offers", "name": None}},
        {"*": {}, "offers": {}, "deals": {"__source__": "offers"}},
    ],
)
def test_names_in_stream_maps(maps: dict[str, Any]) -> None:
    assert [*setting_errors({"stream_maps": maps}, SCHEMAS)] == []


def test_misspelt_stream_map_fails_the_run() -> None:
    assert "Did you mean offers?" in refused(api_key=SECRET, stream_maps={"ofers": {"name": None}})


def test_config_is_read_once(trackly: FakeTrackly, tmp_path: Path) -> None:
    pipe = tmp_path / "config"
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_text, args=(json.dumps(trackly.config()),), daemon=True)
    writer.start()
    run = run_tap(None, f"--config={pipe}", catalog=selecting("offers"))
    assert (run.status, len(run.records)) == (0, 25), run.log


@pytest.mark.parametrize("size", [0, SECRET])
def test_invalid_setting_is_one_log_line(size: Any) -> None:
    run = run_tap({"api_key": SECRET, "page_size": size, "pagesize": 7})
    assert (run.status, run.stdout) == (1, "")
    assert SECRET[:8] not in run.log
    assert "Traceback" not in run.log
    (line,) = run.lines("ERROR")
    assert "page_size" in line


def test_run_with_settings_from_environment(trackly: FakeTrackly) -> None:
    settings = trackly.config()
    variables = {
        "TAP_TRACKLY_API_KEY": f" {settings['api_key']}\n",
        "TAP_TRACKLY_API_URL": settings["api_url"],
        "TAP_TRACKLY_PAGE_SIZE": "7",
        "TAP_TRACKLY_FULL_RESEND_HOURS": "12",
        "TAP_TRACKLY_OFFER_STATUSES": '["archived"]',
        "TAP_TRACKLY_START_DATE": "2025-01-01",
        "TAP_TRACKLY_FAIL_IF_INCOMPLETE": "true",
        "TAP_TRACKLY_PAGE": "unknown",
    }
    run = run_tap(None, "--config=ENV", catalog=selecting("offers"), variables=variables)
    assert run.status == 0, run.log
    assert {record["status"] for record in run.records} == {"archived"}
    assert {request.query["per_page"] for request in trackly.requests} == {"7"}


def test_white_space_trailing_slash_nulls_and_unknown_settings(trackly: FakeTrackly) -> None:
    settings = trackly.config()
    config = {
        "api_key": f"\t{settings['api_key']}\r\n",
        "api_url": f"{settings['api_url']}/",
        "page_size": None,
        "start_date": None,
        "pagesize": 7,
    }
    run = run_tap(config, command=[sys.executable, "-m", "tap_trackly"])
    assert (run.status, len(run.records)) == (0, 25), run.log
    (line,) = run.lines("WARNING")
    assert "pagesize" in line
    assert "page_size" in line


@pytest.mark.parametrize(
    "maps",
    [
        {"*": {"account": "'acme'"}},
        {"contacts": {"phone_number": "md5(phone_number)"}},
        {"contacts": {"hash": "md5(phone_number)", "__else__": None, "__key_properties__": ["hash"]}},
        {"*": {"account": "'acme'", "__key_properties__": ["account", "id"]}},
    ],
)
def test_maps_of_streams_that_are_not_selected(trackly: FakeTrackly, maps: dict[str, Any]) -> None:
    catalog = selecting("offers", "creatives")
    run = trackly.sync(stream_maps=maps, catalog=catalog)
    assert {each["stream"] for each in run.messages if each["type"] == "RECORD"} == {"offers", "creatives"}


@pytest.mark.parametrize(
    "name,value",
    [
        ("stream_maps", {"offers": {"x": ["sha256('s3cret'+id)"]}}),
        ("batch_config", "s3://user:s3cret@bucket"),
        ("api_url", "https://user:s3cret@host"),
    ],
)
def test_secrets_are_not_in_errors(name: str, value: Any) -> None:
    message = refused(api_key=SECRET, **{name: value})
    assert f"{name} is not valid: " in message
    assert "s3cret" not in message
