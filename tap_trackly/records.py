"""Values made fit for any target: times, money, text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any, NamedTuple

Convert = Callable[[Any], Any]

# PostgreSQL stores no NUL character, and no target's UTF-8 can hold half of a surrogate pair.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# What text fields hold as JSON: a bool is a number to Python, too.
_NO_NUMBER = (bool, list, dict)
_DIGITS_OF_AN_INTEGER = 18
_MOST_DIGITS = 1000
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


class Fitted(NamedTuple):
    """A record that any target can store, and what was done to it.

    Attributes:
        record: The record; fields that the schema does not know are left out.
        replaced: One sentence for each value that had to be replaced; it names the field but not the
            value.
        unknown: The fields that were left out.
    """

    record: dict[str, Any]
    replaced: list[str]
    unknown: list[str]


def fit(record: Mapping[str, Any], converts: Mapping[str, Convert]) -> Fitted:
    """Make a record fit for any target.

    Args:
        record: A record as the API sent it, its fractions as `Decimal`.
        converts: The functions that `converters` returned.
    """
    fitted: dict[str, Any] = {}
    replaced: list[str] = []
    unknown: list[str] = []
    for name, value in record.items():
        convert = converts.get(name)
        if convert is None:
            unknown.append(name)
            continue
        try:
            fitted[name] = None if value is None else convert(value)
        except UnfitValueError as unfit:
            fitted[name] = unfit.replacement
            replaced.append(f"field '{name}' {unfit}")
    return Fitted(fitted, replaced, unknown)


def parse_time(value: Any) -> datetime:
    """Return an ISO 8601 text as a time in UTC; one without a zone is UTC already.

    Raises:
        ValueError: If the value is no such text.
    """
    if not isinstance(value, str):
        raise ValueError("a time must be text")  # noqa: TRY004 - callers handle one kind of error
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        time = datetime.fromisoformat(value.strip().upper())
    if time.tzinfo is timezone.utc:
        return time
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
    # Nearly every text takes this way, which is some times as fast as the search below.
    if type(value) is str and value.isascii() and "\x00" not in value:
        return value
    if not isinstance(value, str):
        value = json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, _NO_NUMBER) else str(value)
    return str(_clean(value))


def _number(value: Any) -> int | Decimal:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise UnfitValueError("is no number, sent as null") from None
    # Decimal reads the underscores of Python's own numbers, too.
    if not number.is_finite() or "_" in str(value) or abs(number.adjusted()) > _MOST_DIGITS:
        raise UnfitValueError("is no number that a target can store, sent as null")
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
    if not _is_clean(value):
        raise UnfitValueError("held what no target can store, replaced", _replace(value))
    return value


def _is_clean(value: Any) -> bool:
    if isinstance(value, str):
        return _UNSTORABLE.search(value) is None
    if isinstance(value, dict):
        return all(map(_is_clean, value)) and all(map(_is_clean, value.values()))
    if isinstance(value, list):
        return all(map(_is_clean, value))
    return not isinstance(value, float | Decimal) or isfinite(value)


def _replace(value: Any) -> Any:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_replace(key): _replace(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace(item) for item in value]
    return value if _is_clean(value) else None


_CONVERTERS: dict[str, Convert] = {
    "object": _object,
    "boolean": _boolean,
    "integer": _integer,
    "number": _number,
    "string": _text,
}
