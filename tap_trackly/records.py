"""Converts values to what every target can store: times, money, text. Pure functions."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Annotated, Any

import msgspec

Convert = Callable[[Any], Any]
Converted = tuple[dict[str, Any], dict[str, str]]

# PostgreSQL cannot store NUL, and lone surrogates cannot be encoded as UTF-8.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
MAX_EXPONENT = 307  # the largest exponent of numbers that no target reads as Infinity
_MAX_INTEGER = 2**63 - 1
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}
_encode = msgspec.json.Encoder(decimal_format="number").encode


class UnfitValueError(ValueError):
    """A value cannot be emitted unchanged. The message completes a sentence that starts with the field.

    Attributes:
        replacement: The value to emit instead.
    """

    def __init__(self, reason: str, replacement: Any = None) -> None:
        super().__init__(reason)
        self.replacement = replacement


class RecordConverter:
    """Makes records of a stream valid against its schema.

    Args:
        properties: The properties of the JSON schema.
    """

    def __init__(self, properties: Mapping[str, Mapping[str, Any]]) -> None:
        kinds = {name: _kind(schema) for name, schema in properties.items()}
        self._nulls: dict[str, Any] = dict.fromkeys(properties)
        self._converters = [(name, convert) for name, (convert, _) in kinds.items()]
        self._special = [(name, convert) for name, (convert, plain) in kinds.items() if plain is Any]
        # Names of fields need not be valid names in Python.
        names = {f"field_{place}": name for place, name in enumerate(kinds)}
        fields = [(field, kinds[name][1] | None, None) for field, name in names.items()]
        self._plain_page: Any = list[msgspec.defstruct("Plain", fields, rename=names, forbid_unknown_fields=True)]  # type: ignore[misc]

    def convert_all(self, records: Sequence[Mapping[str, Any]], *, is_clean: bool) -> Iterator[Converted]:
        """Convert the records of a page, one by one: a page of many small records would need much memory.

        Args:
            records: The records as the API sent them.
            is_clean: Whether no character and no decimal number in them needs to be replaced.

        Returns:
            Each record with exactly the fields of the schema, and by field why it was changed or ignored.
        """
        try:
            is_plain = is_clean and bool(msgspec.convert(records, self._plain_page))
        except msgspec.ValidationError:
            is_plain = False
        return (self.convert(record, is_plain=is_plain) for record in records)

    def convert(self, record: Mapping[str, Any], *, is_plain: bool = False) -> Converted:
        """Convert a record, as in `convert_all`. Of a plain one, only times and numbers need to be converted."""
        converted, changed = {**self._nulls, **record}, {}
        for name, convert in self._special if is_plain else self._converters:
            converted[name], reason = _attempt(convert, converted[name])
            if reason:
                changed[name] = f"{reason}, {'sent as null' if converted[name] is None else 'replaced'}"
        while len(converted) > len(self._nulls):  # fields that are not in the schema come last
            changed[converted.popitem()[0]] = "is not in the schema, ignored"
        return converted, changed


def parse_time(value: Any) -> datetime:
    """Parse an ISO 8601 or RFC 822 string as a time in UTC; without a time zone, it is UTC.

    Raises:
        ValueError: If the value is not an ISO 8601 or RFC 822 string.
    """
    return datetime.fromisoformat(utc_text(value))


def utc_text(value: Any) -> str:
    """Return a time in the format in which times are emitted and compared, such as 2025-12-15T09:12:00+00:00.

    Raises:
        ValueError: If the value is not an ISO 8601 or RFC 822 string.
    """
    try:
        text = value.strip()
        if text[:1].isalpha():
            time = parsedate_to_datetime(text)  # RFC 822, the default of Flask's `jsonify`
        else:
            # Most times are in UTC; parsed without the zone, they need no conversion.
            # Python would take the first eight digits of a number, such as milliseconds since 1970, for a date.
            time = datetime.fromisoformat("" if text[:9].isdigit() else text.rstrip("Zz"))
        if time.tzinfo is not None:
            time = time.astimezone(timezone.utc).replace(tzinfo=None)
    except (AttributeError, OverflowError, TypeError, ValueError):
        raise UnfitValueError("is not a valid time") from None
    return f"{msgspec.to_builtins(time)}+00:00"  # several times as fast as isoformat()


def number(value: Any) -> int | Decimal:
    """Return a number with every digit.

    Raises:
        ValueError: If the value is not a number, or one that no target can store.
    """
    if type(value) is int and abs(value) <= _MAX_INTEGER:
        return value
    try:
        # Decimal would ignore underscores, as in 1_000.
        exact = value if type(value) is Decimal else Decimal(str(value).replace("_", "?"))
    except (ArithmeticError, ValueError):
        raise UnfitValueError("is not a number") from None
    if not exact.is_finite() or abs(exact.adjusted()) > MAX_EXPONENT:
        raise UnfitValueError("is not a number that a target can store")
    return exact


def integer(value: Any) -> int:
    """Return a 64-bit integer, also from text or 4.0.

    Raises:
        ValueError: If the value is not one.
    """
    exact = number(value)
    if exact != int(exact) or not -_MAX_INTEGER - 1 <= exact <= _MAX_INTEGER:
        raise UnfitValueError("is not a 64-bit integer")
    return int(exact)


def _boolean(value: Any) -> bool:
    try:
        return _BOOLEANS[str(value).strip().lower()]
    except KeyError:
        raise UnfitValueError("is not true or false") from None


def _text(value: Any) -> str:
    # The fast path of most strings.
    if type(value) is str and value.isascii() and "\x00" not in value:
        return value
    if isinstance(value, bool | list | dict):
        value = _encode(_replace(value)).decode()
    return str(_clean(value))


def _object(value: Any) -> Any:
    if not isinstance(value, dict):
        raise UnfitValueError("is not an object")
    return _clean(value)


def _clean(value: Any) -> Any:
    """Return a value of any depth unchanged.

    Raises:
        UnfitValueError: If it contains values that a target cannot store; the replacement does not.
    """
    replaced = _replace(value)
    if replaced != value:
        raise UnfitValueError("contains values that a target cannot store", replaced)
    return value


def _replace(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isprintable() else _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [*map(_replace, value)]
    if isinstance(value, dict):
        return {_replace(name): _replace(each) for name, each in value.items()}
    return None if isinstance(value, float | Decimal) and not isfinite(value) else value


# By JSON schema type: the conversion, and the type of values on a clean page that do not need it; Any if all do.
_KINDS: dict[str, tuple[Convert, Any]] = {
    "object": (_object, dict),
    "boolean": (_boolean, bool),
    "integer": (integer, Annotated[int, msgspec.Meta(ge=-_MAX_INTEGER - 1, le=_MAX_INTEGER)]),
    "number": (number, Any),
    "string": (_text, str),
}


def _kind(schema: Mapping[str, Any]) -> tuple[Convert, Any]:
    """Return the conversion of non-null values to a JSON schema, and the type of values as in `_KINDS`."""
    if schema.get("format") == "date-time":
        return utc_text, Any
    if "items" in schema:
        return _array_of(schema["items"])
    return next((_KINDS[name] for name in _KINDS if name in schema.get("type", ())), (_clean, Any))


def _array_of(item_schema: Mapping[str, Any]) -> tuple[Convert, Any]:
    convert, plain = _kind(item_schema)
    is_nullable = "null" in item_schema.get("type", ["null"])

    def array(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise UnfitValueError("is not an array")
        attempts = [_attempt(convert, item) for item in value]
        items = [item for item, _ in attempts if item is not None or is_nullable]
        reasons = [reason for _, reason in attempts if reason] or ["is null"] * (len(items) < len(value))
        if reasons:
            raise UnfitValueError(f"has an item that {reasons[0]}", items)
        return items

    return array, Any if plain is Any else list[plain]  # type: ignore[valid-type]


def _attempt(convert: Convert, value: Any) -> tuple[Any, str]:
    """Return a converted value and "", or the replacement of an unfit value and the reason."""
    try:
        return (None if value is None else convert(value)), ""
    except UnfitValueError as unfit:
        return unfit.replacement, str(unfit)
