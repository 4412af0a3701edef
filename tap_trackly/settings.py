"""What is wrong with the settings and the state that a user passes, in words and without a secret."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any
from urllib.parse import urlsplit

from singer_sdk.exceptions import ConfigurationError
from singer_sdk.typing import DEFAULT_JSONSCHEMA_VALIDATOR, extend_validator_with_defaults

from tap_trackly.records import parse_time

_Validator = extend_validator_with_defaults(DEFAULT_JSONSCHEMA_VALIDATOR)
# What an HTTP header can hold. A line break would end the header and start another.
_HEADER_TEXT = re.compile(r"[ -~]*[!-~][ -~]*")


class SettingsError(ConfigurationError):
    """A setting, or the state, does not hold what it takes; the message names it."""


def tidy(config: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without white space around text and without nulls.

    A null is how some schedulers write a setting that is not set, and numbers that may have a
    fraction come from the environment as text.
    """
    tidied = {}
    for name, value in config.items():
        stripped = value.strip() if isinstance(value, str) else value
        if "number" in schema["properties"].get(name, {}).get("type", ()):
            stripped = _number(stripped)
        if stripped is not None:
            tidied[name] = stripped
    return tidied


def check(config: dict[str, Any], schema: Mapping[str, Any]) -> None:
    """Refuse a config that cannot work, and fill in the defaults of one that can.

    Raises:
        SettingsError: Names the first setting that is wrong and says what it takes. It never shows
            the value, which may be a key.
    """
    for error in _Validator(schema).iter_errors(config):
        missing = [name for name in schema["required"] if name not in config]
        raise SettingsError(takes(str(error.path[0] if error.path else missing[0]), schema))
    for name, is_usable in _CHECKS.items():
        if name in config and not is_usable(config[name]):
            raise SettingsError(takes(name, schema))


def check_state(state: Any) -> None:
    """Refuse a state that this tap cannot have written.

    Raises:
        SettingsError: Says what a state looks like.
    """
    try:
        for bookmark in state.get("bookmarks", {}).values():
            if (value := bookmark.get("replication_key_value")) is not None:
                parse_time(value)
    except (AttributeError, TypeError, ValueError):
        raise SettingsError(
            "--state takes the value of a STATE message that this tap wrote, such as "
            '{"bookmarks": {"offers": {"replication_key": "updated_at", "replication_key_value": "2025-12-15"}}}'
        ) from None


def check_catalog(catalog: Any) -> None:
    """Refuse a catalog that is none.

    Raises:
        SettingsError: Says what a catalog looks like.
    """
    if not isinstance(catalog, dict) or not isinstance(catalog.get("streams"), list):
        raise SettingsError('--catalog takes what --discover prints: {"streams": [...]}')


def takes(name: str, schema: Mapping[str, Any]) -> str:
    """Return the line for a user whose setting is not usable."""
    description = schema["properties"].get(name, {}).get("description", "")
    return f"Setting {name} does not hold what it takes: {description}"


def _number(value: Any) -> Any:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value
    return number if isfinite(number) else str(value)


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
        and not url.query + url.fragment
        and _is_header_text(value)
        and " " not in value
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
