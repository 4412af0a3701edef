"""Checks the settings, the state and the catalog that a user passes; error messages show no secret."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import msgspec
from singer_sdk.typing import DEFAULT_JSONSCHEMA_VALIDATOR, extend_validator_with_defaults
from typing_extensions import TypedDict

from tap_trackly.records import parse_time

ENVIRONMENT_PREFIX = "TAP_TRACKLY_"
_NOT_SETTINGS = {"emit_activate_version_messages", "loglevel"}  # known to the SDK, but not in its schema
_Validator = extend_validator_with_defaults(DEFAULT_JSONSCHEMA_VALIDATOR)
# What an HTTP header can hold. A line break would end the header and start another.
_HEADER_TEXT = re.compile(r"[ -~]*[!-~][ -~]*")
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_EXPECTED = {
    "api_key": "the key from Settings > API Keys, one line of printable ASCII",
    "api_url": "an address that begins with http or https and has a host, without user, query and fragment",
    "offer_statuses": "an array of one or more of active, paused, archived",
    "start_date": "an ISO 8601 date or time, such as 2025-01-01 or 2025-01-01T00:00:00Z",
    "full_resend_hours": "a number of 0 or more",
    "request_timeout": "a number of more than 0 and up to 3600",
    "user_agent": "one line of printable ASCII",
    "stream_maps": "an object as in https://sdk.meltano.com/en/latest/stream_maps.html",
    "batch_config": "an object as in https://sdk.meltano.com/en/latest/batch.html",
}

Schema = Mapping[str, Any]


class _Properties(TypedDict):
    properties: dict[str, Any]


class _Metadata(TypedDict):
    breadcrumb: list[str]
    metadata: dict[str, Any]


class _Entry(TypedDict):
    tap_stream_id: str
    schema: _Properties
    metadata: list[_Metadata]


class _Catalog(TypedDict):
    streams: list[_Entry]


class SettingsError(ValueError):
    """A setting, the state or the catalog is missing or invalid; the message names it."""


def read_environment(schema: Schema, environment: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the settings that environment variables hold, such as `TAP_TRACKLY_API_KEY`.

    Raises:
        SettingsError: If a value has not the type of its setting.
    """
    config = {}
    for name, setting in schema["properties"].items():
        text = environment.get(f"{ENVIRONMENT_PREFIX}{name.upper()}")
        if text is not None:
            try:
                config[name] = _parse(text, setting.get("type", ()))
            except (KeyError, RecursionError, ValueError):
                raise SettingsError(_invalid(name, schema)) from None
    return config


def check(config: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """Return a config with its defaults, without white space around text and without nulls.

    A null is how some schedulers write a setting that is not set.

    Raises:
        SettingsError: Names the first setting that is missing or invalid and says what is expected. The value,
            which may be a key, is not shown.
    """
    checked = {name: _tidy(value, _types(name, schema)) for name, value in config.items() if value is not None}
    for name in schema.get("required", ()):
        if name not in checked:
            raise SettingsError(f"Missing setting {name}: expected {_EXPECTED[name]}.")
    for error in _Validator(schema).iter_errors(checked):
        raise SettingsError(_invalid(str(error.path[0]), schema))
    for name, is_valid in _CHECKS.items():
        if name in checked and not is_valid(checked[name]):
            raise SettingsError(_invalid(name, schema))
    if checked.get("flattening_enabled") and "flattening_max_depth" not in checked:
        raise SettingsError("Missing setting flattening_max_depth: flattening_enabled needs it.")
    if "start_date" in checked:
        checked["start_date"] = parse_time(checked["start_date"]).isoformat()
    return checked


def check_config_file(name: str) -> None:
    """Check that a file is a JSON object.

    Raises:
        SettingsError: Says which file and why. Its content is not shown, nor what may be a config in its place.
    """
    shown = name if re.fullmatch("[^{}=\"'\n]*", name) and "trk_" not in name else "this value"
    try:
        is_object = isinstance(json.loads(Path(name).read_bytes()), dict)
        reason = "is not a JSON object"
    except (OSError, RecursionError, ValueError) as error:
        is_object = False
        reason = f"cannot be read: {getattr(error, 'strerror', None) or 'it is not JSON'}"
    if not is_object:
        raise SettingsError(f"--config takes the name of a file with a JSON object, or ENV; {shown} {reason}.")


def parse_file(file: IO[str] | None, option: str) -> Any:
    """Return the JSON object in the file of an option; None if the option was not used.

    Raises:
        SettingsError: If it is anything else.
    """
    if file is None:
        return None
    with suppress(RecursionError, ValueError):
        if isinstance(content := json.load(file), dict):
            return content
    raise SettingsError(f"Invalid {option} file: --{option} expects a JSON object.")


def unknown_settings(names: Collection[str], schema: Schema) -> Iterator[str]:
    """Return a warning for each name that is not a setting, with the most similar one that is."""
    known = schema["properties"]
    for name in names:
        if name not in known and not name.startswith("_") and name not in _NOT_SETTINGS:
            similar = get_close_matches(name, known, n=1)
            yield f"Unknown setting {name} is ignored." + (f" Did you mean {similar[0]}?" if similar else "")


def names_in_environment(environment: Collection[str]) -> list[str]:
    """Return the names of settings for which there are environment variables."""
    size = len(ENVIRONMENT_PREFIX)
    return [name[size:].lower() for name in environment if name.startswith(ENVIRONMENT_PREFIX)]


def check_state(state: Any, streams: Collection[str]) -> None:
    """Check that a state was written by this tap.

    Raises:
        SettingsError: Says what a state looks like.
    """
    try:
        bookmarks = state["bookmarks"] if state != {} else {}
        for bookmark in bookmarks.values():
            if (value := bookmark.get("replication_key_value")) is not None:
                parse_time(value)
    except (AttributeError, KeyError, TypeError, ValueError):
        bookmarks = None
    if bookmarks is None or not isinstance(state, dict) or (bookmarks and not set(bookmarks) & set(streams)):
        raise SettingsError(
            "Invalid state file: --state expects the value of a STATE message of this tap, such as "
            '{"bookmarks": {"offers": {"replication_key": "updated_at", "replication_key_value": "2025-12-15"}}}'
        )


def check_catalog(catalog: Any, replication_keys: Mapping[str, str | None]) -> None:
    """Check that a catalog is one that this tap discovered.

    Args:
        catalog: The parsed file.
        replication_keys: The replication key of each stream, None for a stream without one.

    Raises:
        SettingsError: Says what a catalog looks like or which replication key is expected.
    """
    try:
        entries = msgspec.convert(catalog, _Catalog)["streams"]
    except msgspec.ValidationError:
        raise SettingsError(
            'Invalid catalog file: --catalog expects what --discover prints: {"streams": [...]}, '
            "each entry with tap_stream_id, schema and metadata."
        ) from None
    for entry, whole in zip(entries, catalog["streams"], strict=True):
        name = entry["tap_stream_id"]
        root: Mapping[str, Any] = next((each["metadata"] for each in entry["metadata"] if not each["breadcrumb"]), {})
        for key in (whole.get("replication_key"), root.get("replication-key")):
            if name in replication_keys and key and key != replication_keys[name]:
                expected = replication_keys[name] or "none"
                raise SettingsError(f"Invalid catalog file: the replication key of stream '{name}' is {expected}.")


def _parse(text: str, types: Collection[str]) -> Any:
    if "integer" in types:
        return int(text)
    if "boolean" in types:
        return _BOOLEANS[text.strip().lower()]
    if "object" in types:
        return json.loads(text)
    if "array" in types:
        return json.loads(text) if text.lstrip().startswith("[") else [*map(str.strip, text.split(","))]
    return text


def _tidy(value: Any, types: Collection[str]) -> Any:
    value = value.strip() if isinstance(value, str) else value
    if "number" not in types or isinstance(value, bool):
        return value
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        return str(value)
    return number if isfinite(number) else str(value)


def _types(name: str, schema: Schema) -> Collection[str]:
    types: Collection[str] = schema["properties"].get(name, {}).get("type", ())
    return types


def _invalid(name: str, schema: Schema) -> str:
    setting = schema["properties"].get(name, {})
    kind = next((kind for kind in _types(name, schema) if kind != "null"), "value")
    article = "an" if kind[0] in "aio" else "a"
    limits = f" from {setting['minimum']} to {setting['maximum']}" if {"minimum", "maximum"} <= setting.keys() else ""
    return f"Invalid setting {name}: expected {_EXPECTED.get(name, f'{article} {kind}{limits}')}."


def _is_header_text(value: str) -> bool:
    return _HEADER_TEXT.fullmatch(value) is not None


def _is_web_address(value: str) -> bool:
    try:
        url = urlsplit(value)
        url.port  # noqa: B018 - raises ValueError unless it is a port
    except ValueError:
        return False
    return (
        url.scheme in {"http", "https"}
        and bool(url.hostname)
        and "@" not in url.netloc
        and not set("?# ") & set(value)
        and _is_header_text(value)
    )


def _is_time(value: str) -> bool:
    try:
        parse_time(value)
    except ValueError:
        return False
    return True


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "api_key": _is_header_text,
    "api_url": _is_web_address,
    "offer_statuses": bool,
    "start_date": _is_time,
    "user_agent": _is_header_text,
}
