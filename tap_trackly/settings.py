"""Validates settings, state and catalog. Error messages never show secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any

from singer_sdk.exceptions import SingerSDKError
from singer_sdk.singerlib import Catalog
from singer_sdk.typing import DEFAULT_JSONSCHEMA_VALIDATOR, extend_validator_with_defaults
from urllib3.util import Url, parse_url

from tap_trackly.records import number, parse_time, utc_text

ENVIRONMENT_PREFIX = "TAP_TRACKLY_"
_NOT_SETTINGS = {"emit_activate_version_messages", "loglevel"}  # known to the SDK, but not in its schema
_Validator = extend_validator_with_defaults(DEFAULT_JSONSCHEMA_VALIDATOR)
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_EXPECTED = {
    "api_key": "the key from Settings > API Keys, one line of printable ASCII",
    "api_url": "an http or https URL with a host, without user, query or fragment",
    "offer_statuses": "an array of one or more of active, paused, archived",
    "start_date": "an ISO 8601 date or time, such as 2025-01-01 or 2025-01-01T00:00:00Z",
    "full_resend_hours": "a non-negative number",
    "request_timeout": "a number above 0 and up to 3600",
    "user_agent": "one line of printable ASCII",
    "stream_maps": "an object as described in https://sdk.meltano.com/en/latest/stream_maps.html",
    "batch_config": "an object as described in https://sdk.meltano.com/en/latest/batch.html",
}

Schema = Mapping[str, Any]


class SettingsError(SingerSDKError):
    """A setting, the state or the catalog is missing or invalid; the message names it."""


def read_environment(schema: Schema, environment: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the settings from environment variables such as `TAP_TRACKLY_API_KEY`, including unknown ones.

    Text that cannot be parsed as the type of its setting is returned unchanged.
    """
    settings = {}
    for variable, text in environment.items():
        if variable.startswith(ENVIRONMENT_PREFIX) and text is not None:
            name = variable[len(ENVIRONMENT_PREFIX) :].lower()
            settings[name] = _parse(text, schema["properties"].get(name, {}).get("type", "string"))
    return settings


def check(config: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """Return a config with defaults, without surrounding white space and nulls.

    Some schedulers pass null for settings that are not set.

    Raises:
        SettingsError: If a setting is missing or invalid. The message shows what is expected, but not the
            value, which may be a secret.
    """
    given = {name: value for name, value in config.items() if value is not None}
    checked = {name: value.strip() if isinstance(value, str) else value for name, value in given.items()}
    if "api_key" not in checked:
        raise SettingsError(f"Missing setting api_key: expected {_EXPECTED['api_key']}.")
    for name, read in _READERS.items():
        if name in checked:
            try:
                checked[name] = read(checked[name])
            except (TypeError, ValueError):
                raise _invalid(name, schema) from None
    for error in _Validator(schema).iter_errors(checked):
        raise _invalid(str(error.path[0]), schema)
    if checked.get("flattening_enabled") and "flattening_max_depth" not in checked:
        raise SettingsError("Missing setting flattening_max_depth: required by flattening_enabled.")
    return checked


def read_config_file(name: str) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        SettingsError: If there is none. The message shows neither the content nor a config passed instead of a path.
    """
    shown = name if re.fullmatch("[^{}=\"'\n]*", name) and "trk_" not in name else "this value"
    try:
        if isinstance(content := json.loads(Path(name).read_bytes()), dict):
            return content
        reason = "is not a JSON object"
    except (OSError, RecursionError, ValueError) as error:
        reason = f"cannot be read: {getattr(error, 'strerror', None) or 'it is not JSON'}"
    raise SettingsError(f"--config expects the path of a JSON file, or ENV; {shown} {reason}.")


def parse_file(file: IO[str], option: str) -> dict[str, Any]:
    """Return the JSON object in the file passed with an option.

    Raises:
        SettingsError: If the file does not contain a JSON object.
    """
    with suppress(RecursionError, ValueError):
        if isinstance(content := json.load(file), dict):
            return content
    raise SettingsError(f"Invalid {option} file: --{option} expects a JSON object.")


def unknown_settings(names: Iterable[str], schema: Schema) -> Iterator[str]:
    """Yield a warning for each unknown setting, with the most similar known one."""
    known = schema["properties"]
    for name in names:
        if name not in known and not name.startswith("_") and name not in _NOT_SETTINGS:
            similar = get_close_matches(name, known, n=1)
            yield f"Unknown setting {name} is ignored." + (f" Did you mean {similar[0]}?" if similar else "")


def check_state(state: Any, streams: Collection[str]) -> None:
    """Check that a state was written by this tap.

    Raises:
        SettingsError: If it was not; the message shows a valid state.
    """
    try:
        bookmarks = state["bookmarks"] if state != {} else {}
        values = [bookmark.get("replication_key_value") for bookmark in bookmarks.values()]
        has_stream = not bookmarks or not set(bookmarks).isdisjoint(streams)
        is_valid = has_stream and all(value is None or parse_time(value) for value in values)
    except (AttributeError, KeyError, TypeError, ValueError):
        is_valid = False
    if not is_valid:
        raise SettingsError(
            "Invalid state file: --state expects the value of a STATE message of this tap, such as "
            '{"bookmarks": {"offers": {"replication_key": "updated_at", "replication_key_value": "2025-12-15"}}}'
        )


def parse_catalog(content: Mapping[str, Any]) -> Catalog:
    """Return the catalog in a parsed file.

    Raises:
        SettingsError: If it is not what `--discover` prints.
    """
    try:
        catalog = Catalog.from_dict({"streams": content["streams"]})
        is_valid = all(
            entry.tap_stream_id and entry.metadata and entry.schema.properties is not None for entry in catalog.streams
        )
    except (AttributeError, KeyError, TypeError):
        is_valid = False
    if not is_valid:
        raise SettingsError(
            'Invalid catalog file: --catalog expects what --discover prints: {"streams": [...]}, '
            "each entry with tap_stream_id, schema and metadata."
        )
    return catalog


def _parse(text: str, types: Collection[str]) -> Any:
    if "string" in types:
        return text
    if "boolean" in types:
        return _BOOLEANS.get(text.strip().lower(), text)
    try:
        return int(text) if "integer" in types else json.loads(text)
    except (RecursionError, ValueError):
        return [*map(str.strip, text.split(","))] if "array" in types else text


def _invalid(name: str, schema: Schema) -> SettingsError:
    setting = schema["properties"][name]
    kind = setting["type"][0]
    article = "an" if kind[0] in "aio" else "a"
    limits = f" from {setting['minimum']} to {setting['maximum']}" if {"minimum", "maximum"} <= setting.keys() else ""
    return SettingsError(f"Invalid setting {name}: expected {_EXPECTED.get(name, f'{article} {kind}{limits}')}.")


def _web_address(value: str) -> str:
    url = parse_url(value)
    # The URL as it is requested: without user, query, fragment and characters that would be encoded.
    plain = Url(url.scheme, host=url.host, port=url.port, path=url.path).url
    if url.scheme not in {"http", "https"} or not url.host or plain.lower() != value.lower():
        raise ValueError
    return value


# Conversions of settings before they are validated.
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "api_url": _web_address,
    "start_date": utc_text,
    "full_resend_hours": number,
    "request_timeout": number,
}
