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

from tap_trackly.records import utc_text

# Settings whose values may contain secrets.
_SECRET = {"api_key", "api_url", "stream_maps", "stream_map_config", "faker_config", "batch_config"}
_MAP_OPTIONS = {"__alias__", "__else__", "__filter__", "__key_properties__", "__source__"}
# The types and formats to which any value can be converted.
_TYPES = {("boolean", ""), ("integer", ""), ("number", ""), ("object", ""), ("string", ""), ("string", "date-time")}
# What else is taken from a field in a catalog.
_FIELD_PARTS = ("additionalProperties", "description", "format", "properties")


def read_object(path: str, option: str) -> dict[str, Any]:
    """Return the JSON object in a file, in UTF-8 or UTF-16.

    Raises:
        ConfigurationError: If there is none. The message does not show the path, which may be a config or a key.
    """
    try:
        found = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise ConfigurationError(f"Invalid {option} file: {error.strerror}. --{option} expects a path.") from None
    except (RecursionError, ValueError):
        found = None
    if isinstance(found, dict):
        return found
    raise ConfigurationError(f"Invalid {option} file: --{option} expects a JSON object.")


def explain(error: str, settings: Mapping[str, Any]) -> str:
    """Return an error of the SDK's validation without secrets.

    Args:
        error: The error, such as "101 is greater than the maximum of 100 in config['page_size']".
        settings: The JSON schema of each setting.
    """
    name = error.rpartition(" in config['")[2].partition("']")[0]
    return f"{name} is not valid: {settings[name]['description'].rstrip('.')}" if name in _SECRET else error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question with the most similar known name."""
    return f"Did you mean {get_close_matches(name, known, n=1, cutoff=0.0)[0]}?"


def setting_errors(config: Mapping[str, Any], schemas: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Yield what the SDK's validation does not find, with the name of the setting.

    Args:
        config: The settings.
        schemas: The fields of each stream.
    """
    try:
        utc_text(config.get("start_date", "2025-01-01"))
    except ValueError as error:
        yield f"start_date: it {error}."
    if config.get("batch_config") and (config.get("stream_maps") or config.get("flattening_enabled")):
        yield "batch_config: it cannot be combined with stream_maps or flattening_enabled."
    yield from (f"stream_maps: {error}" for error in _map_errors(config.get("stream_maps") or {}, schemas))


def _map_errors(maps: Mapping[str, Any], schemas: Mapping[str, Iterable[str]]) -> Iterator[str]:
    last: dict[str, str] = {}  # of several maps of a stream, the SDK uses the last one
    for name in maps:
        fields = maps[name] if isinstance(maps[name], dict) else {}
        source = str(fields.get("__source__", name))
        found = matching(schemas, source)
        if not found and not name.startswith("__"):
            yield f"unknown stream '{source}'. {did_you_mean(source, schemas)}"
        known = sorted(_MAP_OPTIONS.union(*(schemas[stream] for stream in found)))
        for field in fields if found else ():
            if field not in known and (field.startswith("__") or fields[field] in (None, "__NULL__")):
                yield f"unknown field '{field}' of stream '{name}'. {did_you_mean(field, known)}"
        for stream in found if source == name else ():
            if last.setdefault(stream, name) != name and name != stream:
                yield f"of '{last[stream]}' and '{name}', only the last one would apply to stream '{stream}'."


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
    metadata = {tuple(each["breadcrumb"]): {**each["metadata"]} for each in given.get("metadata") or []}
    schema = given.get("schema") or {}
    # Without metadata, the catalog is a shortened or an old one.
    is_selected = given.get("selected", schema.get("selected", True))
    root = metadata.setdefault((), {} if metadata else {"selected": is_selected})
    method = root.get("replication-method") or given.get("replication_method") or root.get("forced-replication-method")
    key = stream.replication_key or (stream.optional_replication_key if method == REPLICATION_INCREMENTAL else None)
    root |= {"replication-key": key, "forced-replication-method": method if method == REPLICATION_FULL_TABLE else None}
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


def _own_type(own: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the type of a field in a catalog if the tap can convert any value to it, or else its own."""
    kinds = given.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else [kind for kind in kinds if kind != "null"]
    if (*kinds, given.get("format", "")) not in _TYPES:
        return own
    return {"type": [*kinds, "null"], **{part: given[part] for part in _FIELD_PARTS if given.get(part)}}


def own_state(state: Mapping[str, Any], streams: Collection[str]) -> dict[str, Any]:
    """Return the bookmarks of streams of this tap without partitions, progress markers and values that are not times.

    Raises:
        ConfigurationError: If it is not a state.
    """
    with suppress(AttributeError, KeyError):
        bookmarks = state["bookmarks"].items()
        return {"bookmarks": {name: _own_bookmark(bookmark) for name, bookmark in bookmarks if name in streams}}
    raise ConfigurationError('Invalid state file: --state expects a STATE of this tap, such as {"bookmarks": {...}}.')


def _own_bookmark(bookmark: Mapping[str, Any]) -> dict[str, Any]:
    foreign = {"partitions", "progress_markers", "replication_key_value"}
    own = {name: value for name, value in bookmark.items() if name not in foreign}
    with suppress(ValueError):
        own["replication_key_value"] = utc_text(bookmark.get("replication_key_value"))
    return own
