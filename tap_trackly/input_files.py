"""Checks the settings, catalog and state, and takes from them what the tap can use."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from fnmatch import filter as matching
from pathlib import Path
from typing import Any

from singer_sdk.exceptions import ConfigurationError
from singer_sdk.singerlib.catalog import REPLICATION_FULL_TABLE, REPLICATION_INCREMENTAL

from tap_trackly.records import parse_time

# What is expected of settings whose values are not shown, because they may contain secrets.
_SECRET = {
    "api_key": "text",
    "api_url": "an http or https URL without user, query and fragment",
    "stream_maps": "an object with an object or null for each stream",
    "stream_map_config": "an object",
    "faker_config": "an object with seed and locale",
    "batch_config": "an object with encoding and storage",
}
_MAP_OPTIONS = {"__alias__", "__else__", "__filter__", "__key_properties__", "__source__"}
_TYPES = {"boolean", "integer", "number", "object", "string"}


def read_object(content: bytes, option: str) -> dict[str, Any]:
    """Return the JSON object in the content of a file, in UTF-8 or UTF-16.

    Raises:
        ConfigurationError: If there is none.
    """
    with suppress(RecursionError, ValueError):
        if isinstance(found := json.loads(content), dict):
            return found
    raise ConfigurationError(f"Invalid {option} file: --{option} expects a JSON object.")


def read_config(path: str) -> dict[str, Any]:
    """Return the JSON object in a config file.

    Raises:
        ConfigurationError: If there is none. The message does not show the path, which may be a config or a key.
    """
    try:
        return read_object(Path(path).read_bytes(), "config")
    except OSError as error:
        raise ConfigurationError(f"Invalid config file: {error.strerror}. --config expects a path, or ENV.") from None


def explain(error: str) -> str:
    """Return an error of the SDK's validation, such as "101 is ... in config['page_size']", without secrets."""
    name = error.rpartition(" in config['")[2].partition("']")[0]
    return f"{name} is not valid: expected {_SECRET[name]}" if name in _SECRET else error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question with the most similar known name."""
    return f"Did you mean {get_close_matches(name, known, n=1, cutoff=0.0)[0]}?"


def mapped_streams(maps: Mapping[str, Any], streams: Collection[str]) -> dict[str, list[str]]:
    """Return the streams to which each map in the setting stream_maps applies."""
    return {name: matching(streams, _source(name, maps[name])) for name in maps if not name.startswith("__")}


def is_loaded_as_is(field: str, stream: str, maps: Mapping[str, Any]) -> bool:
    """Return whether a field of a stream is loaded unchanged, also in a copy of the stream."""
    applied = [maps[name] for name, found in mapped_streams(maps, [stream]).items() if found]
    copies = [fields for fields in applied if isinstance(fields, dict) and "__source__" in fields]
    original = [fields for fields in applied if fields not in copies][-1:] or [None if "__else__" in maps else {}]
    return any(
        fields.get(field, None if "__else__" in fields else field) == field
        for fields in (*original, *copies)
        if isinstance(fields, dict)
    )


def setting_errors(config: Mapping[str, Any], schemas: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Yield what the SDK's validation does not find, with the name of the setting.

    Args:
        config: The settings.
        schemas: The fields of each stream.
    """
    try:
        parse_time(config.get("start_date", "2025-01-01"))
    except ValueError as error:
        yield f"start_date: it {error}."
    for name in ("stream_maps", "flattening_enabled"):
        if config.get(name) and config.get("batch_config"):
            yield f"batch_config: it cannot be combined with {name}."
    yield from (f"stream_maps: {error}" for error in _map_errors(config.get("stream_maps") or {}, schemas))


def _map_errors(maps: Mapping[str, Any], schemas: Mapping[str, Iterable[str]]) -> Iterator[str]:
    mapped = mapped_streams(maps, schemas)
    for name, found in mapped.items():
        if not found:
            source = _source(name, maps[name])
            yield f"unknown stream '{source}'. {did_you_mean(source, schemas)}"
        elif isinstance(maps[name], dict):
            known = sorted(_MAP_OPTIONS.union(*(schemas[stream] for stream in found)))
            for field, expression in maps[name].items():
                if field not in known and (field.startswith("__") or expression in (None, "__NULL__")):
                    yield f"unknown field '{field}' of stream '{name}'. {did_you_mean(field, known)}"
    for stream in schemas:  # of several maps of a stream, the SDK uses the last one
        names = [name for name in mapped if stream in mapped[name] and _source(name, maps[name]) == name]
        if names[1:] and names[-1] != stream:
            yield f"of '{names[-2]}' and '{names[-1]}', only the last one would apply to stream '{stream}'."


def _source(name: str, fields: Any) -> str:
    return str(fields.get("__source__", name)) if isinstance(fields, dict) else name


def own_catalog(catalog: Mapping[str, Any], streams: Iterable[Any]) -> dict[str, Any]:
    """Return the entries of streams of this tap, with the tap's own keys and fields.

    From the catalog, the tap takes the selection, the replication method and the simple types of fields that are not
    keys.

    Args:
        catalog: The catalog.
        streams: The classes of the streams.

    Raises:
        ConfigurationError: If it is not a catalog.
    """
    try:
        given = {entry.get("tap_stream_id") or entry["stream"]: entry for entry in catalog["streams"]}
        return {"streams": [_own_entry(stream, given[stream.name]) for stream in streams if stream.name in given]}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ConfigurationError("Invalid catalog file: --catalog expects what --discover prints.") from None


def _own_entry(stream: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {tuple(each["breadcrumb"]): _own_metadata(each["metadata"]) for each in given.get("metadata") or []}
    schema = given.get("schema") or {}
    # Without metadata, the catalog is a shortened or an old one.
    is_selected = given.get("selected", schema.get("selected", True))
    root = metadata.setdefault((), {} if metadata else _own_metadata({"selected": is_selected}))
    methods = (root.get("replication-method"), given.get("replication_method"), root.get("forced-replication-method"))
    method = next((each for each in methods if each in {REPLICATION_FULL_TABLE, REPLICATION_INCREMENTAL}), None)
    key = stream.replication_key or (stream.optional_replication_key if method == REPLICATION_INCREMENTAL else None)
    method = method or REPLICATION_INCREMENTAL if key else REPLICATION_FULL_TABLE
    root |= {"replication-key": key, "forced-replication-method": method}
    keys = [*stream.primary_keys, key]
    own = stream.schema["properties"]
    for name in own:
        metadata.setdefault(("properties", name), {})["inclusion"] = "automatic" if name in keys else "available"
    types = schema.get("properties") or {}
    properties = {name: own[name] if name in keys else _own_type(own[name], types.get(name) or {}) for name in own}
    return {
        "tap_stream_id": stream.name,
        "key_properties": [*stream.primary_keys],
        "schema": {**stream.schema, "properties": properties},
        "metadata": [{"breadcrumb": [*path], "metadata": each} for path, each in metadata.items()],
    }


def _own_metadata(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata in which `selected` is not text, such as "false", which the SDK takes for true."""
    selected = given.get("selected")
    return {**given, "selected": selected.lower() == "true"} if isinstance(selected, str) else {**given}


def _own_type(own: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the type of a field in a catalog if the tap can convert any value to it, or else its own."""
    kinds = given.get("type", [])
    kinds = {kinds} if isinstance(kinds, str) else {*kinds} - {"null"}
    if kinds < {*own["type"]} and given.get("format") == own.get("format"):
        return {**own, "properties": given["properties"]} if "properties" in given else own  # for flattening
    if len(kinds) != 1 or not kinds <= _TYPES:
        return own
    is_time = kinds == {"string"} and given.get("format") == "date-time"
    return {"type": [*kinds, "null"], **({"format": "date-time"} if is_time else {})}


def own_state(state: Mapping[str, Any], streams: Collection[str]) -> dict[str, Any]:
    """Return the bookmarks of streams of this tap without partitions, progress markers and values that are not times.

    Raises:
        ConfigurationError: If it is not a state.
    """
    with suppress(AttributeError, KeyError):
        bookmarks = state["bookmarks"] if state else {}
        own = {name: _own_bookmark(bookmark) for name, bookmark in bookmarks.items() if name in streams}
        if own or not bookmarks:
            return {"bookmarks": own}
    raise ConfigurationError('Invalid state file: --state expects a STATE of this tap, such as {"bookmarks": {...}}.')


def _own_bookmark(bookmark: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in bookmark.items() if name not in {"partitions", "progress_markers"}}
    try:
        parse_time(own.get("replication_key_value"))
    except ValueError:
        own.pop("replication_key_value", None)
    return own
