"""What a user gets who passes settings or a state that cannot work."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.fake_trackly import FakeTrackly
from tests.tap import Run, run_tap, selecting

SECRET = "trk_5ecret0f4nAcc0unt"  # noqa: S105
UNREACHABLE = "http://127.0.0.1:9/api/v2"


def assert_one_line(run: Run, *words: str) -> None:
    """A failed run said one thing, with these words, and nothing of the key."""
    assert run.status == 1
    assert run.stdout == ""
    assert "Traceback" not in run.log
    assert SECRET[:8] not in run.log
    (line,) = run.lines("ERROR")
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    "key",
    [
        "",
        " ",
        "\n\t",
        f"{SECRET}\nX-Other: 1",
        f"{SECRET}\r",
        f"{SECRET}\rx",
        f"ключ{SECRET}",
        f"{SECRET}☃",
        [SECRET],
        {SECRET: 1},
    ],
)
def test_a_key_that_no_header_can_hold(key: Any) -> None:
    run = run_tap({"api_key": key, "api_url": UNREACHABLE, "max_retries": 0})
    if key == f"{SECRET}\r":
        assert "api_key" not in run.log, "white space around the key is stripped"
        return
    assert_one_line(run, "api_key", "Settings > API Keys")


@pytest.mark.parametrize("config", [{}, {"api_key": None}])
def test_a_missing_key(config: dict[str, Any]) -> None:
    assert_one_line(run_tap({"api_url": UNREACHABLE, **config}), "api_key", "Settings > API Keys")


def test_a_number_as_a_key_is_not_shown() -> None:
    run = run_tap({"api_key": 735194682, "api_url": UNREACHABLE})
    assert_one_line(run, "api_key")
    assert "7351" not in run.log


@pytest.mark.parametrize(
    "setting,value,words",
    [
        ("api_url", "", "http or https"),
        ("api_url", "app.tracklysms.com/api/v2", "http or https"),
        ("api_url", "//app.tracklysms.com", "http or https"),
        ("api_url", "ftp://app.tracklysms.com", "http or https"),
        ("api_url", "https://", "http or https"),
        ("api_url", "https:///api/v2", "http or https"),
        ("api_url", "https://host:port/", "http or https"),
        ("api_url", "https://user:password@host/", "http or https"),
        ("api_url", "https://host/?page=1", "http or https"),
        ("page_size", 0, "from 1 to 100"),
        ("page_size", 101, "from 1 to 100"),
        ("page_size", "x", "from 1 to 100"),
        ("offer_statuses", [], "active, paused, archived"),
        ("offer_statuses", ["deleted"], "active, paused, archived"),
        ("offer_statuses", "active", "active, paused, archived"),
        ("start_date", "soon", "ISO 8601"),
        ("start_date", "2025-02-30", "ISO 8601"),
        ("start_date", "", "ISO 8601"),
        ("full_resend_hours", -1, "0 or more"),
        ("full_resend_hours", "inf", "0 or more"),
        ("full_resend_hours", "nan", "0 or more"),
        ("request_timeout", "nan", "more than 0"),
        ("concurrency", 0, "from 1 to 32"),
        ("concurrency", 33, "from 1 to 32"),
        ("request_timeout", 0, "more than 0"),
        ("max_retries", -1, "from 0"),
        ("user_agent", "a\nb", "one line"),
    ],
)
def test_a_setting_that_cannot_be_used(setting: str, value: Any, words: str) -> None:
    run = run_tap({"api_key": SECRET, "api_url": UNREACHABLE, setting: value})
    assert_one_line(run, f"Setting {setting} ", words)


@pytest.mark.parametrize("option", ["--test", "--test=schema"])
def test_the_test_option_refuses_settings_in_the_same_words(option: str) -> None:
    assert_one_line(run_tap({"api_key": SECRET, "page_size": 0}, option), "Setting page_size ")


@pytest.mark.parametrize(
    "setting,value", [("page_size", "x"), ("page_size", "0"), ("offer_statuses", ""), ("batch_config", "{")]
)
def test_a_setting_of_the_environment_that_cannot_be_used(setting: str, value: str) -> None:
    variables = {"TAP_TRACKLY_API_KEY": SECRET, f"TAP_TRACKLY_{setting.upper()}": value}
    assert_one_line(run_tap(None, "--config=ENV", variables=variables), f"Setting {setting} ")


@pytest.mark.parametrize(
    "state",
    [
        [],
        None,
        {"bookmarks": []},
        {"bookmarks": {"offers": "2025-01-01"}},
        {"bookmarks": {"offers": {"replication_key": "updated_at", "replication_key_value": "soon"}}},
    ],
)
def test_a_state_that_cannot_be_read(state: Any, tmp_path: Any) -> None:
    file = tmp_path / "state.json"
    file.write_text(json.dumps(state))
    assert_one_line(run_tap({"api_key": SECRET, "api_url": UNREACHABLE}, "--state", str(file)), "--state", "bookmarks")


@pytest.mark.parametrize("config", ['{"api_key": "%s"}' % SECRET, f"api_key={SECRET}"])  # noqa: UP031
def test_a_config_in_place_of_its_file_is_not_shown(config: str) -> None:
    assert_one_line(run_tap(None, "--config", config), "--config takes the name of a file")


@pytest.mark.parametrize("text", ["", "{", "not json"])
@pytest.mark.parametrize("option", ["--state", "--config", "--catalog"])
def test_files_that_hold_no_json(option: str, text: str, tmp_path: Any) -> None:
    file = tmp_path / "file.json"
    file.write_text(text)
    assert_one_line(run_tap({"api_key": SECRET, "api_url": UNREACHABLE}, option, str(file)), option)


def test_settings_from_the_environment(trackly: FakeTrackly) -> None:
    settings = trackly.config()
    variables = {
        "TAP_TRACKLY_API_KEY": f" {settings['api_key']}\n",
        "TAP_TRACKLY_API_URL": settings["api_url"],
        "TAP_TRACKLY_PAGE_SIZE": "7",
        "TAP_TRACKLY_FULL_RESEND_HOURS": "0.5",
        "TAP_TRACKLY_OFFER_STATUSES": '["archived"]',
        "TAP_TRACKLY_START_DATE": "2025-01-01",
    }
    run = run_tap(None, "--config=ENV", catalog=selecting("offers"), variables=variables)
    assert run.status == 0, run.log
    assert {record["status"] for record in run.records} == {"archived"}


def test_a_trailing_slash_and_white_space_around_text_are_fine(trackly: FakeTrackly) -> None:
    settings = trackly.config()
    run = run_tap({"api_key": f"\t{settings['api_key']}\r\n", "api_url": f"{settings['api_url']}/ "})
    assert (run.status, len(run.records)) == (0, 25)


def test_a_null_is_a_setting_that_is_not_set(trackly: FakeTrackly) -> None:
    assert len(trackly.sync(page_size=None, start_date=None).records) == 25


def test_it_runs_as_a_module(trackly: FakeTrackly) -> None:
    run = run_tap(trackly.config(), command=[sys.executable, "-m", "tap_trackly"])
    assert (run.status, len(run.records)) == (0, 25)
