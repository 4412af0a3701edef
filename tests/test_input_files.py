"""Config, catalog and state files: what the tap takes from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from singer_sdk.exceptions import ConfigurationError

from tap_trackly.input_files import own_state, read_object
from tap_trackly.tap import TapTrackly
from tests.fake_trackly import FakeTrackly
from tests.tap import offers_state, selecting

SECRET = "trk_5ecret0f4nAcc0unt"  # noqa: S105
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]
NOT_OBJECTS = ["", "{", "not json", "null", "1", "[]", '["ab"]', '"x"', "[" * 100_000]


def tap_with(catalog: Any) -> TapTrackly:
    return TapTrackly(config={"api_key": SECRET}, catalog=catalog)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text('{"name": "ß☃"}', encoding=encoding)
    assert read_object(str(path), "state") == {"name": "ß☃"}


@pytest.mark.parametrize("content", [*(text.encode() for text in NOT_OBJECTS), '{"name": "ß"}'.encode("latin-1")])
def test_invalid_json_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"^Invalid state file: --state expects a JSON object\.$"):
        read_object(str(path), "state")


@pytest.mark.parametrize("option", ["state", "catalog"])
def test_files_in_utf_16(trackly: FakeTrackly, option: str, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    content = selecting("offers") if option == "catalog" else offers_state()
    path.write_text(json.dumps(content), encoding="utf-16")
    how: Any = {"state": {"catalog": selecting("offers")}, "catalog": {}}[option]
    run = trackly.sync(f"--{option}={path}", **how)
    assert set(run.states[-1]["bookmarks"]) == {"offers"}
    path.write_text("[]")
    trackly.run(f"--{option}={path}", **how).assert_failed(f"--{option} expects a JSON object")


def config_failure(name: str) -> str:
    """Return the message for a config file that cannot be used."""
    with pytest.raises(ConfigurationError, match=r"^Invalid config file: .*--config expects ") as failure:
        read_object(name, "config")
    return str(failure.value)


@pytest.mark.parametrize("text", NOT_OBJECTS)
def test_invalid_config_file(text: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    assert config_failure(str(file)) == "Invalid config file: --config expects a JSON object."


@pytest.mark.parametrize(
    "name,reason", [("missing.json", "No such file or directory"), (".", "Is a directory"), ("", "Is a directory")]
)
def test_unreadable_config_file(name: str, reason: str) -> None:
    assert config_failure(name) == f"Invalid config file: {reason}. --config expects a path."


@pytest.mark.parametrize("config", [f'{{"api_key": "{SECRET}"}}', f"api_key={SECRET}", SECRET, f"'{SECRET}'"])
def test_config_passed_as_file_name(config: str) -> None:
    assert SECRET[:8] not in config_failure(config)


def test_config_files_are_merged(tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("first.json", "second.json")]
    for name, content in zip(names, ('{"page_size": 1, "concurrency": 1}', '{"page_size": 2}'), strict=True):
        Path(name).write_text(content)
    context, option = click.Context(click.Command("tap-trackly")), click.Option(["--config"])
    given = TapTrackly.cb_config(context, option, (*names, "ENV"))
    assert (given.config, given.parse_env) == ({"page_size": 2, "concurrency": 1}, True)


def entry_of(stream: str, **changes: Any) -> dict[str, Any]:
    """Return the discovered entry of a stream, selected, with changes; None removes a part."""
    (entry,) = (each for each in selecting(stream)["streams"] if each["stream"] == stream)
    return {name: value for name, value in {**entry, **changes}.items() if value is not None}


def root_only(**metadata: Any) -> list[dict[str, Any]]:
    return [{"breadcrumb": [], "metadata": {"selected": True, **metadata}}]


SINGER_IO = {
    "tap_stream_id": "offers",
    "stream": "offers",
    "table_name": "offers",
    "schema": {"type": "object", "properties": {"id": {"type": "string"}, "colour": {"type": "string"}}},
    "metadata": [
        {
            "breadcrumb": [],
            "metadata": {
                "selected": True,
                "table-key-properties": ["id"],
                "forced-replication-method": "INCREMENTAL",
                "valid-replication-keys": ["updated_at"],
                "inclusion": "available",
            },
        },
        {"breadcrumb": ["properties", "id"], "metadata": {"inclusion": "automatic"}},
        {"breadcrumb": ["properties", "colour"], "metadata": {"inclusion": "available", "selected": True}},
    ],
}
CATALOG_ENTRIES = {
    "discovered": entry_of("offers"),
    "singer-io": SINGER_IO,
    "only the name": {"stream": "offers"},
    "only the id": {"tap_stream_id": "offers"},
    "no schema": entry_of("offers", schema=None),
    "no metadata": entry_of("offers", metadata=None),
    "empty metadata": entry_of("offers", metadata=[]),
    "metadata of the stream only": entry_of("offers", metadata=root_only()),
    "no keys": entry_of("offers", key_properties=None, replication_key=None),
    "other keys": entry_of("offers", key_properties=["slug"], replication_key="created_at"),
    "keys in metadata": entry_of(
        "offers",
        key_properties=None,
        metadata=root_only(**{"table-key-properties": ["slug"], "replication-key": "created_at"}),
    ),
    "list as replication key": entry_of("offers", metadata=root_only(**{"replication-key": ["updated_at"]})),
    "unknown method": entry_of("offers", replication_method="LOG_BASED"),
    "older version": entry_of("offers", schema={"properties": {"id": {"type": ["string"]}}}),
}


@pytest.mark.parametrize("form", CATALOG_ENTRIES)
def test_catalog_selects_a_stream_with_its_own_keys(form: str) -> None:
    tap = tap_with({"streams": [CATALOG_ENTRIES[form]]})
    (stream,) = tap.selected_streams()
    own = tap_with(None).streams["offers"]
    assert stream.name == "offers"
    assert ([*stream.primary_keys], stream.replication_key) == (["id"], "updated_at")
    assert stream.replication_method == "INCREMENTAL"
    assert stream.effective_schema["properties"] == own.effective_schema["properties"]
    assert all(stream.mask["properties", name] for name in own.schema["properties"])


@pytest.mark.parametrize("form", CATALOG_ENTRIES)
def test_run_with_a_catalog(trackly: FakeTrackly, form: str) -> None:
    run = trackly.sync(catalog={"streams": [CATALOG_ENTRIES[form]]})
    assert run.ids == sorted(trackly.account.offers)
    (schema,) = (message for message in run.messages if message["type"] == "SCHEMA")
    assert (schema["key_properties"], schema["bookmark_properties"]) == (["id"], ["updated_at"])
    assert run.bookmark == "2025-12-15T09:12:00+00:00"


@pytest.mark.parametrize("place", ["entry", "replication-method", "forced-replication-method"])
def test_replication_method_is_taken_from_the_catalog(place: str) -> None:
    entry = entry_of("offers", replication_method="FULL_TABLE")
    if place != "entry":
        entry = entry_of("offers", replication_method=None, metadata=root_only(**{place: "FULL_TABLE"}))
    (stream,) = tap_with({"streams": [entry]}).selected_streams()
    assert (stream.replication_method, stream.replication_key) == ("FULL_TABLE", "updated_at")


@pytest.mark.parametrize("key", ["updated_at", "created_at"])
def test_replication_key_for_all_streams(key: str) -> None:
    """As with `metadata: {"*": {replication-key: updated_at}}` in Meltano."""
    catalog = selecting("offers", "lists", "contacts")
    for entry in catalog["streams"]:
        for each in entry["metadata"]:
            if not each["breadcrumb"]:
                each["metadata"]["replication-key"] = key
    found = {stream.name: stream.replication_key for stream in tap_with(catalog).selected_streams()}
    assert found == {"offers": "updated_at", "lists": None, "contacts": None}
    methods = {stream.name: stream.replication_method for stream in tap_with(catalog).selected_streams()}
    assert methods == {"offers": "INCREMENTAL", "lists": "FULL_TABLE", "contacts": "FULL_TABLE"}


def test_replication_method_in_the_metadata_has_precedence() -> None:
    """What `--discover` prints has one beside the metadata, which users edit."""
    metadata = root_only(**{"replication-method": "INCREMENTAL"})
    entry = entry_of("contacts", replication_method="FULL_TABLE", metadata=metadata)
    (stream,) = tap_with({"streams": [entry]}).selected_streams()
    assert stream.replication_method == "INCREMENTAL"


def test_optional_replication_key() -> None:
    entry = entry_of("contacts", replication_method="INCREMENTAL")
    (stream,) = tap_with({"streams": [entry]}).selected_streams()
    assert stream.replication_key == stream.optional_replication_key
    assert stream.replication_method == "INCREMENTAL"


def test_types_are_taken_from_the_catalog_except_of_keys() -> None:
    entry = entry_of("offers")
    properties = {name: {"type": ["integer", "null"]} for name in ("id", "updated_at", "external_id", "colour")}
    (stream,) = tap_with({"streams": [{**entry, "schema": {"properties": properties}}]}).selected_streams()
    effective = stream.effective_schema["properties"]
    assert effective["external_id"] == {"type": ["integer", "null"]}
    assert effective["id"] == entry["schema"]["properties"]["id"]
    assert effective["updated_at"] == entry["schema"]["properties"]["updated_at"]
    assert list(effective) == list(entry["schema"]["properties"])


def test_changed_type_is_emitted(trackly: FakeTrackly) -> None:
    entry = entry_of("offers")
    entry["schema"]["properties"]["payout"] = {"type": ["string", "null"]}
    run = trackly.sync(catalog={"streams": [entry]})
    assert {type(record["payout"]) for record in run.records} == {str}


@pytest.mark.parametrize(
    "given,used",
    [
        ({"type": "string"}, {"type": ["string", "null"]}),
        ({"type": ["string"], "format": "date-time"}, {"type": ["string", "null"], "format": "date-time"}),
        ({"type": "integer", "minimum": 1, "enum": [1, 2]}, {"type": ["integer", "null"]}),
        ({"type": ["string", "integer", "null"]}, None),
        ({"type": "array"}, None),
        ({"type": "decimal"}, None),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, None),
        ({"type": ["number"], "maximum": 1}, {"type": ["number", "null"]}),
        ({"type": "string", "format": "uuid"}, None),
    ],
)
def test_only_types_to_which_any_value_can_be_converted(given: dict[str, Any], used: dict[str, Any] | None) -> None:
    entry = entry_of("offers")
    own = entry["schema"]["properties"]["payout"]
    (stream,) = tap_with({"streams": [{**entry, "schema": {"properties": {"payout": given}}}]}).selected_streams()
    assert stream.effective_schema["properties"]["payout"] == (used or own)


@pytest.mark.parametrize(
    "given,used",
    [
        ({"type": ["string", "null"]}, {"type": ["string", "null"]}),
        ({"type": "string", "format": "date-time"}, None),
        ({"type": ["integer"], "format": "date-time"}, None),
    ],
)
def test_type_of_a_time(given: dict[str, Any], used: dict[str, Any] | None) -> None:
    entry = entry_of("offers")
    own = entry["schema"]["properties"]["created_at"]
    (stream,) = tap_with({"streams": [{**entry, "schema": {"properties": {"created_at": given}}}]}).selected_streams()
    effective = stream.effective_schema["properties"]["created_at"]
    assert {name: effective[name] for name in effective if name != "description"} == (
        used or {name: own[name] for name in own if name != "description"}
    )


@pytest.mark.parametrize(
    "entry,is_selected",
    [
        ({"stream": "offers"}, True),
        ({"stream": "offers", "selected": False}, False),
        ({"stream": "offers", "metadata": root_only(selected=False)}, False),
        ({"stream": "contacts", "schema": {}}, True),
        ({"stream": "contacts", "selected": False}, False),
    ],
)
def test_selection(entry: dict[str, Any], *, is_selected: bool) -> None:
    tap = tap_with({"streams": [entry]})
    assert [stream.name for stream in tap.streams.values() if stream.selected] == [entry["stream"]] * is_selected


def test_other_streams_and_deselected_ones_are_not_read() -> None:
    foreign = {**entry_of("offers"), "tap_stream_id": "orders", "stream": "orders"}
    deselected = entry_of("lists", metadata=root_only(selected=False))
    tap = tap_with({"streams": [foreign, deselected, {"stream": "audiences"}]})
    assert [stream.name for stream in tap.selected_streams()] == ["audiences"]


@pytest.mark.parametrize(
    "catalog",
    [
        {},
        {"streams": None},
        {"streams": 5},
        {"streams": ["offers"]},
        {"streams": [None]},
        {"streams": [{}]},
        {"streams": [{"stream": "offers", "metadata": [None]}]},
        {"streams": [{"stream": "offers", "metadata": [{"metadata": {}}]}]},
        {"streams": [{"stream": "offers", "metadata": [{"breadcrumb": []}]}]},
        {"streams": [{"stream": "offers", "metadata": 5}]},
        {"streams": [{"stream": "offers", "schema": {"properties": ["id"]}}]},
        {"streams": [{"stream": "offers", "schema": "x"}]},
        {"streams": [{"stream": "offers", "schema": {"properties": {"name": "text"}}}]},
        {"streams": [{"stream": "offers", "metadata": [{"breadcrumb": [[]], "metadata": {}}]}]},
        {"streams": [{"stream": ["offers"]}]},
    ],
)
def test_unusable_catalog(catalog: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^Invalid catalog file: --catalog expects what --discover prints"):
        tap_with(catalog)


STREAMS = ["offers", "lists"]
BOOKMARK = {"replication_key": "updated_at", "replication_key_value": "2025-01-01T00:00:00+00:00"}


@pytest.mark.parametrize(
    "state",
    [
        {"offers": {}},
        {"bookmarks": 5},
        {"bookmarks": {"offers": "2025-01-01"}},
        {"bookmarks": {"offers": None}},
        {"type": "STATE", "value": {"bookmarks": {"offers": BOOKMARK}}},
        {"singer_state": {"bookmarks": {"offers": BOOKMARK}}},
    ],
)
def test_invalid_state(state: Any) -> None:
    with pytest.raises(ConfigurationError, match=r'^Invalid state file: .*STATE of this tap.*{"bookmarks": '):
        own_state(state, STREAMS)


@pytest.mark.parametrize(
    "state,own",
    [
        ({"bookmarks": {}}, {}),
        ({"bookmarks": {"orders": BOOKMARK}}, {}),
        ({"bookmarks": {"offers": BOOKMARK, "orders": {}}}, {"offers": BOOKMARK}),
        ({"bookmarks": {"lists": {}}}, {"lists": {}}),
        ({"bookmarks": {"offers": {**BOOKMARK, "partitions": [{}], "last_full_send": "x"}}}, None),
    ],
)
def test_own_state(state: Any, own: Any) -> None:
    own = {"offers": {**BOOKMARK, "last_full_send": "x"}} if own is None else own
    before = json.dumps(state)
    assert own_state(state, STREAMS) == {"bookmarks": own}
    assert json.dumps(state) == before


@pytest.mark.parametrize("value", ["soon", "", 5, None, 10**400, {}])
def test_bookmark_that_is_no_time_is_left_out(value: Any) -> None:
    state = {"bookmarks": {"offers": {**BOOKMARK, "replication_key_value": value}}}
    assert own_state(state, STREAMS) == {"bookmarks": {"offers": {"replication_key": "updated_at"}}}
