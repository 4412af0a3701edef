"""SDK features: discovery, --about, --test, selection, stream maps, flattening, batch files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from urllib.request import url2pathname

import pytest
from syrupy.assertion import SnapshotAssertion

from tests.fake_trackly import FakeTrackly, answer
from tests.tap import STREAMS, exact, offers_catalog, output_of, run_tap, selecting

UPDATE = ".venv/bin/python -m pytest tests/test_sdk_features.py --snapshot-update"
SETTINGS = [
    "api_key",
    "api_url",
    "start_date",
    "offer_statuses",
    "page_size",
    "full_resend_hours",
    "concurrency",
    "request_timeout",
    "max_retries",
    "fail_if_incomplete",
    "user_agent",
]


def test_discovery(snapshot: SnapshotAssertion) -> None:
    assert json.loads(output_of("--discover")) == snapshot, f"run `{UPDATE}`, and review the diff"


def test_schema() -> None:
    for stream in selecting()["streams"]:
        properties = stream["schema"]["properties"]
        assert all(field["description"] for field in properties.values())
        assert not any("enum" in field for field in properties.values())
        required = {name for name, field in properties.items() if "null" not in field["type"]}
        assert required == set(stream["schema"]["required"]) == set(stream["key_properties"])


@pytest.mark.parametrize("form", [["--about"], ["--about", "--format=json"], ["--about", "--format=markdown"]])
def test_about(form: list[str]) -> None:
    about = output_of(*form).lower()
    for setting in [*SETTINGS, "stream_maps", "batch_config"]:
        assert setting in about


def test_settings_schema() -> None:
    settings = json.loads(output_of("--about", "--format=json"))["settings"]
    own = {name: settings["properties"][name] for name in SETTINGS}
    assert all(setting["title"] and setting["description"] for setting in own.values())
    assert settings["required"] == ["api_key"]
    assert own["api_key"]["secret"] is True
    assert own["api_url"]["default"] == "https://app.tracklysms.com/api/v2"
    assert own["offer_statuses"]["default"] == ["active", "paused", "archived"]
    assert (own["page_size"]["minimum"], own["page_size"]["maximum"]) == (1, 100)
    assert (own["concurrency"]["minimum"], own["concurrency"]["maximum"], own["concurrency"]["default"]) == (1, 32, 8)
    assert (own["full_resend_hours"]["minimum"], own["full_resend_hours"]["default"]) == (0, 24)
    assert (own["request_timeout"]["default"], own["max_retries"]["default"]) == (60, 5)
    assert own["fail_if_incomplete"]["default"] is False
    assert own["user_agent"]["default"].startswith("tap-trackly/")


def test_test_option(trackly: FakeTrackly) -> None:
    run = trackly.sync("--test")
    assert {request.stream for request in trackly.requests} == {*STREAMS} - {"contacts"}
    assert {request.page for request in trackly.requests} == {1}
    assert run.messages == []
    assert not run.lines("ERROR")
    assert "offers: OK, 25 records" in run.log


def test_test_option_with_a_listing_that_cannot_be_read(trackly: FakeTrackly) -> None:
    trackly.inject(answer({"error": "No."}, 400), stream="lists", times=9)
    run = trackly.run("--test")
    run.assert_failed("lists: ", "HTTP 400")
    assert "creatives: OK" in run.log


def test_schema_test_option() -> None:
    run = run_tap({"api_key": "trk", "api_url": "http://127.0.0.1:9"}, "--test=schema")
    assert (run.status, [message["type"] for message in run.messages]) == (0, ["SCHEMA"] * len(STREAMS))


def test_deselected_fields(trackly: FakeTrackly) -> None:
    catalog = offers_catalog(payout={"selected": False}, metadata={"selected": False})
    run = trackly.sync(catalog=catalog)
    assert len(run.records) == 25
    assert not any({"payout", "metadata"} & set(record) for record in run.records)
    assert all({"id", "updated_at"} <= set(record) for record in run.records)


@pytest.mark.parametrize("options", [[], ["--test"]])
def test_no_selected_stream(options: list[str]) -> None:
    run = run_tap({"api_key": "trk", "api_url": "http://127.0.0.1:9"}, *options, catalog=selecting())
    run.assert_failed("No stream is selected")
    assert run.messages == []


def test_stream_maps(trackly: FakeTrackly) -> None:
    maps = {
        "offers": {
            "__alias__": "deals",
            "name": "name.upper()",
            "updated_at": None,
            "__filter__": "status != 'archived'",
        }
    }
    run = trackly.sync(stream_maps=maps)
    assert {message["stream"] for message in run.messages if "stream" in message} == {"deals"}
    assert all("updated_at" not in record for record in run.records)
    assert run.by_id["664f1a2b3c4d5e6f7a8b9c0d"]["name"] == "SUMMER PROMO"
    assert len(run.records) == len(trackly.account.listed(None))
    assert run.bookmark == "2025-12-15T09:12:00+00:00"


def test_flattening(trackly: FakeTrackly) -> None:
    run = trackly.sync(flattening_enabled=True, flattening_max_depth=1)
    assert json.loads(run.by_id["664f1a2b3c4d5e6f7a8b9c0d"]["metadata"]) == {"vertical": "health", "geo": "US"}


def test_flattening_of_fields_in_the_catalog(trackly: FakeTrackly) -> None:
    catalog = offers_catalog()
    metadata = catalog["streams"][0]["schema"]["properties"]["metadata"]
    metadata["properties"] = {"geo": {"type": ["string", "null"]}}
    run = trackly.sync(catalog=catalog, flattening_enabled=True, flattening_max_depth=1)
    assert run.by_id["664f1a2b3c4d5e6f7a8b9c0d"]["metadata__geo"] == "US"


def test_batches(trackly: FakeTrackly, tmp_path: Path) -> None:
    storage = {"root": tmp_path.as_uri(), "prefix": "batch-"}
    run = trackly.sync(batch_config={"encoding": {"format": "jsonl", "compression": "gzip"}, "storage": storage})
    manifests = [file for message in run.messages if message["type"] == "BATCH" for file in message["manifest"]]
    lines = [
        line
        for file in manifests
        for line in gzip.decompress(Path(url2pathname(file.removeprefix("file://"))).read_bytes()).splitlines()
    ]
    records = [exact(line.decode()) for line in lines]
    assert sorted(record["id"] for record in records) == sorted(trackly.account.offers)
    assert run.bookmark == "2025-12-15T09:12:00+00:00"
    assert trackly.run(state=run.state).ids == ["664f1a2b3c4d5e6f7a8b9c0d"]
