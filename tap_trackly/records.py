"""Values made fit for any target: times, money, text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from typing import Any

Convert = Callable[[Any], Any]

# PostgreSQL stores no NUL character, and no target's UTF-8 can hold half of a surrogate pair.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_DIGITS_OF_AN_INTEGER = 18
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


class UnfitValueError(ValueError):
    """A value that cannot leave as it is.

    Attributes:
        replacement: What leaves in its place.
    """

    def __init__(self, reason: str, replacement: Any = None) -> None:
        super().__init__(reason)
        self.replacement = replacement


def converters(properties: Mapping[str, Mapping[str, Any]]) -> dict[str, Convert]:
    """Return one function for each field of a JSON schema's properties.

    Each takes a value that is not null and returns it as the schema wants it, or raises
    UnfitValueError.
    """
    return {name: _converter(schema) for name, schema in properties.items()}


def fit(record: Mapping[str, Any], converts: Mapping[str, Convert]) -> tuple[dict[str, Any], list[str]]:
    """Make a record fit for any target.

    Args:
        record: A record as the API sent it, its fractions as `Decimal`.
        converts: The functions that `converters` returned.

    Returns:
        The record with its values converted, and one sentence for each value that had to be
        replaced, which names the field but not the value. Fields without a function stay as they
        are.
    """
    fitted = {}
    replaced = []
    for name, value in record.items():
        try:
            fitted[name] = value if value is None or name not in converts else converts[name](value)
        except UnfitValueError as unfit:
            fitted[name] = unfit.replacement
            replaced.append(f"field '{name}' {unfit}")
    return fitted, replaced


def parse_time(value: Any) -> datetime:
    """Return an ISO 8601 text as a time in UTC; one without a zone is UTC already.

    Raises:
        ValueError: If the value is no such text.
    """
    if not isinstance(value, str):
        raise ValueError("a time must be text")  # noqa: TRY004 - callers handle one kind of error
    time = datetime.fromisoformat(value.strip().upper())
    if time.tzinfo is None:
        return time.replace(tzinfo=timezone.utc)
    try:
        return time.astimezone(timezone.utc)
    except OverflowError as error:
        raise ValueError("a time must lie between the years 1 and 9999 in UTC") from error


def _converter(schema: Mapping[str, Any]) -> Convert:
    types = schema.get("type", ())
    if schema.get("format") == "date-time":
        return _time
    if "items" in schema:
        return _array_of(_converter(schema["items"]))
    for name, convert in _CONVERTERS.items():
        if name in types:
            return convert
    return _clean


def _time(value: Any) -> str:
    try:
        return parse_time(value).isoformat()
    except ValueError:
        raise UnfitValueError("is no time, sent as null") from None


def _text(value: Any) -> str:
    if isinstance(value, bool | list | dict):
        value = json.dumps(value, default=str, ensure_ascii=False)
    return str(_clean(str(value)))


def _number(value: Any) -> int | Decimal:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise UnfitValueError("is no number, sent as null") from None
    # Decimal reads the underscores of Python's own numbers, too.
    if not number.is_finite() or "_" in str(value):
        raise UnfitValueError("is no finite number, sent as null")
    return number


def _integer(value: Any) -> int:
    number = Decimal(_number(value))
    if number.adjusted() >= _DIGITS_OF_AN_INTEGER or number != int(number):
        raise UnfitValueError("is no whole number that a target can store, sent as null")
    return int(number)


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    try:
        return _BOOLEANS[str(value).strip().lower()]
    except KeyError:
        raise UnfitValueError("is neither true nor false, sent as null") from None


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnfitValueError("is no object, sent as null")
    cleaned: dict[str, Any] = _clean(value)
    return cleaned


def _array_of(convert: Convert) -> Convert:
    def array(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise UnfitValueError("is no array, sent as null")
        items = []
        unfit = None
        for item in value:
            try:
                items.append(None if item is None else convert(item))
            except UnfitValueError as error:
                unfit = error
                items.append(error.replacement)
        if unfit:
            raise UnfitValueError(str(unfit), items)
        return items

    return array


def _clean(value: Any) -> Any:
    """Return a value of any depth with what no target can store replaced.

    Raises:
        UnfitValueError: If there was something to replace; its replacement is the clean value.
    """
    cleaned = _replace(value)
    if cleaned != value:
        raise UnfitValueError("held what no target can store, replaced", cleaned)
    return value


def _replace(value: Any) -> Any:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_replace(key): _replace(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace(item) for item in value]
    if isinstance(value, float | Decimal) and not Decimal(value).is_finite():
        return None
    return value


_CONVERTERS: dict[str, Convert] = {
    "object": _object,
    "boolean": _boolean,
    "integer": _integer,
    "number": _number,
    "string": _text,
}
