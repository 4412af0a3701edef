"""Converts values to what every target can store: times, money, text. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Annotated, Any, NamedTuple

import msgspec
from typing_extensions import TypedDict

from tap_trackly.pagination import Page

Convert = Callable[[Any], Any]

# PostgreSQL stores no NUL character, and no target's UTF-8 can hold a lone surrogate.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_MAX_INTEGER = 2**63 - 1
_MAX_EXPONENT = 307  # of numbers that no target reads as Infinity
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}
_INTEGER = Annotated[int, msgspec.Meta(ge=-_MAX_INTEGER - 1, le=_MAX_INTEGER)]
# What is in objects. Deeper ones take the slow way; NaN and what targets read as Infinity do, too.
_SCALAR: Any = None | bool | int | str | Annotated[float, msgspec.Meta(ge=-1e308, le=1e308)]
_NESTED = _SCALAR
for _ in range(4):
    _NESTED = _SCALAR | list[_NESTED] | dict[str, _NESTED]  # type: ignore[valid-type]
_PLAIN_TYPES: dict[str, Any] = {
    "object": dict[str, _NESTED],  # type: ignore[valid-type]
    "boolean": bool,
    "integer": _INTEGER,
    "string": str,
}
_encode = msgspec.json.Encoder(decimal_format="number").encode


class UnfitValueError(ValueError):
    """A value cannot be sent as it is; the message is the rest of a sentence that begins with its field.

    Attributes:
        replacement: What is sent in its place.
    """

    def __init__(self, reason: str, replacement: Any = None) -> None:
        super().__init__(reason)
        self.replacement = replacement


class Conformed(NamedTuple):
    """A record that every target can store, and what was done to it.

    Attributes:
        record: The record, with all fields of the schema and no others.
        replaced: For each field whose value had to be replaced, what was wrong with it.
        unknown: The fields that were left out.
    """

    record: dict[str, Any]
    replaced: dict[str, str]
    unknown: list[str]


class RecordConverter:
    """Makes records of a stream valid against its schema.

    Args:
        properties: The properties of the JSON schema.
    """

    def __init__(self, properties: Mapping[str, Mapping[str, Any]]) -> None:
        self._converters = {name: converter(schema) for name, schema in properties.items()}
        self._nulls: dict[str, Any] = dict.fromkeys(properties)
        types = {name: _plain_type(schema) for name, schema in properties.items()}
        self._page_type: Any = list[TypedDict("PlainRecord", types, total=False)]  # type: ignore[misc, operator]
        special = {name: self._converters[name] for name, kind in types.items() if kind is Any}
        self._special = [(name, utc_text if convert is _time else convert) for name, convert in special.items()]

    def conforms(self, page: Page) -> bool:
        """Return whether the records of a page are valid as they are, but for times and numbers."""
        if not page.is_clean or not self._nulls.keys() >= set().union(*page.records):
            return False
        try:
            msgspec.convert(page.records, self._page_type)
        except msgspec.ValidationError:
            return False
        return True

    def complete(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return a record of a page that conforms, made valid.

        Raises:
            ValueError: If a time or number is not valid.
        """
        completed = {**self._nulls, **record}
        for name, convert in self._special:
            value = completed[name]
            if value is not None:
                completed[name] = convert(value)
        return completed

    def convert(self, record: Mapping[str, Any]) -> Conformed:
        """Return a record made valid, value by value."""
        conformed = Conformed(dict(self._nulls), {}, [])
        for name, value in record.items():
            convert = self._converters.get(name)
            if convert is None:
                conformed.unknown.append(name)
                continue
            try:
                conformed.record[name] = None if value is None else convert(value)
            except UnfitValueError as unfit:
                conformed.record[name] = unfit.replacement
                conformed.replaced[name] = f"{unfit}, {'sent as null' if unfit.replacement is None else 'replaced'}"
        return conformed


def key_getter(names: Sequence[str], properties: Mapping[str, Mapping[str, Any]]) -> Convert:
    """Return a function that returns the key of a record.

    It raises ValueError with the reason if a part of the key is missing or not valid.
    """
    converters = [(name, converter(properties[name])) for name in names]

    def get_key(record: Mapping[str, Any]) -> tuple[Any, ...]:
        key = []
        for name, convert in converters:
            value = record.get(name)
            if value is None or value == "":
                raise ValueError(f"field '{name}' is missing or empty")
            try:
                key.append(convert(value))
            except UnfitValueError as unfit:
                if unfit.replacement is None:
                    raise ValueError(f"field '{name}' {unfit}") from None
                key.append(unfit.replacement)
        return tuple(key)

    return get_key


def parse_time(value: Any) -> datetime:
    """Return an ISO 8601 text as a time in UTC; one without a zone is UTC already.

    Raises:
        ValueError: If the value is not such a text.
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


def utc_text(value: Any) -> str:
    """Return a time in the form in which times are emitted and compared, such as 2025-12-15T09:12:00+00:00.

    Raises:
        ValueError: If the value is not an ISO 8601 text.
    """
    if type(value) is str and len(value) == len("2025-12-15T09:12:00Z") and value[7] + value[10] + value[19] == "-TZ":
        datetime.fromisoformat(value)
        return f"{value[:19]}+00:00"  # the vendor's own form, without the detour
    return parse_time(value).isoformat()


def converter(schema: Mapping[str, Any]) -> Convert:
    """Return the function that makes values valid against a JSON schema.

    It takes a value that is not null, and raises UnfitValueError if the value cannot be sent as it is.
    """
    types = schema.get("type", ())
    if schema.get("format") == "date-time":
        return _time
    if "items" in schema:
        return _array_of(schema["items"])
    for name, convert in _CONVERTERS.items():
        if name in types:
            return convert
    return _clean


def _plain_type(schema: Mapping[str, Any]) -> Any:
    """Return the type of values that need no conversion; Any if each value has to be looked at."""
    types = schema.get("type", ())
    kind = None if "format" in schema else next((_PLAIN_TYPES[name] for name in _PLAIN_TYPES if name in types), None)
    if "items" in schema:
        item = _plain_type(schema["items"])
        kind = None if item is Any else list[item]  # type: ignore[valid-type]
    if kind is None:
        return Any
    return kind | None if "null" in types else kind


def _time(value: Any) -> str:
    try:
        return utc_text(value)
    except ValueError:
        raise UnfitValueError("is not a valid time") from None


def _text(value: Any) -> str:
    # Nearly every text takes this way, which is some times as fast as the search below.
    if type(value) is str and value.isascii() and "\x00" not in value:
        return value
    if isinstance(value, bool | list | dict):
        value = _encode(_replace(value)).decode()
    return str(_clean(value))


def _number(value: Any) -> int | Decimal:
    try:
        number: Decimal = value if type(value) is Decimal else Decimal(str(value))
    except (InvalidOperation, ValueError):
        raise UnfitValueError("is not a number") from None
    # Decimal reads the underscores of Python's own numbers, too.
    if not number.is_finite() or abs(number.adjusted()) > _MAX_EXPONENT or (type(value) is str and "_" in value):
        raise UnfitValueError("is not a number that a target can store")
    return value if type(value) is int else number


def _integer(value: Any) -> int:
    number = Decimal(_number(value))
    if abs(number) > _MAX_INTEGER + 1 or number != int(number) or int(number) > _MAX_INTEGER:
        raise UnfitValueError("is not an integer of 64 bits")
    return int(number)


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    try:
        return _BOOLEANS[str(value).strip().lower()]
    except KeyError:
        raise UnfitValueError("is not true or false") from None


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnfitValueError("is not an object")
    cleaned: dict[str, Any] = _clean(value)
    return cleaned


def _array_of(item_schema: Mapping[str, Any]) -> Convert:
    convert = converter(item_schema)
    is_nullable = "null" in item_schema.get("type", ("null",))

    def array(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise UnfitValueError("is not an array")
        items = []
        reason = ""
        for item in value:
            try:
                converted = None if item is None else convert(item)
            except UnfitValueError as unfit:
                converted, reason = unfit.replacement, f"has an item that {unfit}"
            if converted is not None or is_nullable:
                items.append(converted)
            else:
                reason = reason or "has an item that is null"
        if reason:
            raise UnfitValueError(reason, items)
        return items

    return array


def _clean(value: Any) -> Any:
    """Return a value of any depth.

    Raises:
        UnfitValueError: If it holds what no target can store; the replacement does not.
    """
    if not _is_clean(value):
        raise UnfitValueError("holds what a target cannot store", _replace(value))
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
