"""What users hand over: config, catalog and state. The tap takes from them what it can use."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from singer_sdk.exceptions import ConfigurationError
from singer_sdk.singerlib.catalog import REPLICATION_FULL_TABLE, REPLICATION_INCREMENTAL

from tap_trackly.records import parse_time

_METHODS = {REPLICATION_FULL_TABLE, REPLICATION_INCREMENTAL}


def read_json(file: IO[str], option: str) -> dict[str, Any]:
    """Return the JSON object in the file passed with an option, in UTF-8 or UTF-16.

    Raises:
        ConfigurationError: If the file does not contain a JSON object.
    """
    try:
        if isinstance(content := json.loads(file.buffer.read()), dict):  # type: ignore[attr-defined]
            return content
    except (RecursionError, ValueError):
        pass
    raise ConfigurationError(f"Invalid {option} file: --{option} expects a JSON object.")


def read_config_file(name: str) -> dict[str, Any]:
    """Return the JSON object in a config file, in UTF-8 or UTF-16.

    Raises:
        ConfigurationError: If there is none. The message shows neither the content nor a config passed as the path.
    """
    shown = name if re.fullmatch("[^{}=\"'\n]*", name) and "trk_" not in name else "this value"
    try:
        if isinstance(content := json.loads(Path(name).read_bytes()), dict):
            return content
        reason = "is not a JSON object"
    except (OSError, RecursionError, ValueError) as error:
        reason = f"cannot be read: {getattr(error, 'strerror', None) or 'it is not JSON'}"
    raise ConfigurationError(f"--config expects the path of a JSON file, or ENV; {shown} {reason}.")


def own_catalog(catalog: Mapping[str, Any], streams: Iterable[Any]) -> dict[str, Any]:
    """Return the entries of the selected streams, with the tap's own keys and fields.

    From a catalog come the selection, the replication method and the types of fields that are no keys.

    Args:
        catalog: The catalog.
        streams: The classes of the streams.

    Raises:
        ConfigurationError: If it is not a catalog.
    """
    try:
        given = {entry.get("tap_stream_id") or entry["stream"]: entry for entry in catalog["streams"]}
        entries = [_own_entry(stream, given[stream.name]) for stream in streams if stream.name in given]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ConfigurationError(
            'Invalid catalog file: --catalog expects what --discover prints: {"streams": [...]}.'
        ) from None
    return {"streams": entries}


def own_state(state: Mapping[str, Any], streams: Collection[str]) -> dict[str, Any]:
    """Return the bookmarks of streams of this tap, without partitions and bookmarks that are not times.

    Raises:
        ConfigurationError: If it is not a state.
    """
    try:
        bookmarks = state["bookmarks"] if state else {}
        own = {name: _own_bookmark(bookmark) for name, bookmark in bookmarks.items() if name in streams}
    except (AttributeError, KeyError, TypeError):
        bookmarks, own = True, {}
    if bookmarks and not own:
        raise ConfigurationError(
            "Invalid state file: --state expects the value of a STATE message of this tap, such as "
            '{"bookmarks": {"offers": {"replication_key": "updated_at", "replication_key_value": "2025-12-15"}}}'
        )
    return {"bookmarks": own}


def _own_bookmark(bookmark: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in bookmark.items() if name != "partitions"}
    try:
        parse_time(own.get("replication_key_value"))
    except ValueError:
        own.pop("replication_key_value", None)
    return own


def _own_entry(stream: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {tuple(each["breadcrumb"]): {**each["metadata"]} for each in given.get("metadata") or []}
    root = metadata.setdefault((), {} if metadata else {"selected": True})
    root.pop("replication-key", None)  # which the SDK would use for a stream that has none
    methods = (given.get("replication_method"), root.get("replication-method"), root.get("forced-replication-method"))
    method = next((each for each in methods if each in _METHODS), None)
    key = stream.replication_key or (stream.optional_replication_key if method == REPLICATION_INCREMENTAL else None)
    keys = [*stream.primary_keys, *([key] if key else [])]
    types = (given.get("schema") or {}).get("properties") or {}  # those that are no objects raise an error below
    own = stream.schema["properties"]
    properties = {name: own[name] if name in keys else {**(types.get(name) or own[name])} for name in own}
    fields = {name: metadata.get(("properties", name), {}) for name in own}
    inclusions = {name: "automatic" if name in keys else "available" for name in own}
    return {
        "tap_stream_id": stream.name,
        "stream": stream.name,
        "key_properties": [*stream.primary_keys],
        "replication_key": key,
        "replication_method": method if key else REPLICATION_FULL_TABLE,
        "schema": {**stream.schema, "properties": properties},
        "metadata": [
            {"breadcrumb": [], "metadata": root},
            *(
                {"breadcrumb": ["properties", name], "metadata": {**fields[name], "inclusion": inclusions[name]}}
                for name in own
            ),
        ],
    }
