"""Whatever the API sends, converted records are valid against the schema and every target can store them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker
from singer_sdk.contrib.msgspec import serialize_jsonl
from typing_extensions import override

from tap_trackly.pagination import Page, parse_page
from tap_trackly.records import RecordConverter, parse_time, utc_text
from tap_trackly.tap import STREAMS

REPLACED = "\ufffd"
NAMES = [str(vars(stream)["name"]) for stream in STREAMS]
SCHEMAS: dict[str, dict[str, Any]] = {vars(stream)["name"]: vars(stream)["schema"] for stream in STREAMS}
KEYS: dict[str, tuple[str, ...]] = {vars(stream)["name"]: vars(stream)["primary_keys"] for stream in STREAMS}
CONVERTERS = {name: RecordConverter(schema["properties"]) for name, schema in SCHEMAS.items()}
OFFERS = CONVERTERS["offers"]
EXAMPLES = settings(max_examples=30, deadline=None)
FORMATS = FormatChecker(formats=())
VALIDATORS = {name: Draft202012Validator(schema, format_checker=FORMATS) for name, schema in SCHEMAS.items()}


@FORMATS.checks("date-time")
def _is_utc_time(value: Any) -> bool:
    form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?\+00:00"
    return not isinstance(value, str) or re.fullmatch(form, value) is not None


# JSON text as in a response, including some that Python's encoders never write.
TEXTS = st.one_of(
    st.text(max_size=5).map(json.dumps),
    st.text(max_size=5).map(lambda text: json.dumps(text, ensure_ascii=False)).filter(lambda text: text.isprintable()),
    st.sampled_from([r'"\u0000"', r'"a\ud800"', r'"\udfff\ud83d"', r'"\ud83d\ude00"', '""', '"\u2028"', r'"\\u0000"']),
)
INTEGERS = (st.integers() | st.integers(-(2**64), 2**64) | st.sampled_from([2**63, 10**400, -(10**400)])).map(str)
NUMBERS = st.one_of(
    INTEGERS,
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.sampled_from(
        ["1e307", "1e308", "-1e309", "0E+500", "1E-400", "1.0", "-0.0", "0.10", "123456789.123456789012345678"]
    ),
)
OFFSETS = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
TIMES = st.one_of(
    st.datetimes(timezones=st.none() | OFFSETS).map(lambda time: f'"{time.isoformat()}"'),
    st.sampled_from(
        ['"2025-01-01"', '"2025-01-01t00:00:00z"', '"0001-01-01T00:00:00+14:00"', '"9999-12-31T23:59:59-01:00"']
    ),
)
OTHERS = st.sampled_from(
    ["null", "true", "false", "NaN", "Infinity", "-Infinity", '"NaN"', '"5"', '"1_0"', '"true"', '"1e999"']
)


def _arrays(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(items, max_size=3).map(lambda values: f"[{','.join(values)}]")


def _object(pairs: Iterable[tuple[str, str]]) -> str:
    return f"{{{','.join(f'{name}:{value}' for name, value in pairs)}}}"


def _objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.dictionaries(TEXTS, values, max_size=3).map(lambda found: _object(found.items()))


JSON = st.recursive(TEXTS | NUMBERS | TIMES | OTHERS, lambda inner: _arrays(inner) | _objects(inner), max_leaves=8)


def _fitting(schema: Mapping[str, Any]) -> st.SearchStrategy[str]:
    """Return values of the type in the schema, which may still be impossible to store."""
    if schema.get("format") == "date-time":
        return TIMES
    if "items" in schema:
        return _arrays(_fitting(schema["items"]))
    kinds = {
        "object": _objects(NUMBERS | JSON),
        "boolean": st.sampled_from(["true", "false"]),
        "integer": INTEGERS | st.integers(0, 99).map(str),
        "number": NUMBERS,
        "string": TEXTS,
    }
    return next(kinds[kind] for kind in kinds if kind in schema["type"])


def _pages(name: str, *, fit: bool) -> st.SearchStrategy[Page]:
    fields = {}
    for field, schema in SCHEMAS[name]["properties"].items():
        fields[field] = _fitting(schema) if fit else _fitting(schema) | JSON | _arrays(JSON)
        if "null" in schema["type"]:
            fields[field] |= st.just("null")
    keys = {field: fields.pop(field) for field in KEYS[name]}
    records = st.fixed_dictionaries(keys, optional=fields if fit else {**fields, "colour": JSON})
    return st.lists(records, min_size=1, max_size=2).map(lambda found: _page(name, found))


def _page(name: str, records: list[dict[str, str]]) -> Page:
    objects = ",".join(_object((json.dumps(field), value) for field, value in record.items()) for record in records)
    pagination = {"page": 1, "per_page": 100, "total": len(records), "total_pages": 1}
    body = f'{{"{name}":[{objects}],"pagination":{json.dumps(pagination)}}}'
    return parse_page(body.encode(), name, 1, 100)


def _offers(**fields: str) -> Page:
    return _page("offers", [fields])


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    else:
        yield value


def _refuse(constant: str) -> None:
    raise AssertionError(constant)


def assert_storable(name: str, record: dict[str, Any]) -> None:
    """Check that the record has all fields, and that a target can read and store all values."""
    text = serialize_jsonl(record).decode("utf-8")
    VALIDATORS[name].validate(json.loads(text, parse_constant=_refuse, parse_float=Decimal))
    assert record.keys() == SCHEMAS[name]["properties"].keys()
    for leaf in _leaves(json.loads(text)):
        assert leaf not in (float("inf"), -float("inf"))
        assert not isinstance(leaf, str) or "\x00" not in leaf


def convert_page(name: str, page: Page) -> list[tuple[dict[str, Any], dict[str, str]]]:
    return [*CONVERTERS[name].convert_all(page.records, is_clean=page.is_clean)]


@pytest.mark.parametrize("name", NAMES)
@EXAMPLES
@given(data=st.data())
def test_any_record_becomes_valid(name: str, data: st.DataObject) -> None:
    page = data.draw(_pages(name, fit=False))
    for record, (converted, changed) in zip(page.records, convert_page(name, page), strict=True):
        assert changed.keys() <= record.keys()
        assert changed.keys() >= record.keys() - SCHEMAS[name]["properties"].keys()
        if all(converted[key] not in {None, ""} for key in KEYS[name]):  # others are left out
            assert_storable(name, converted)


@pytest.mark.parametrize("name", NAMES)
@EXAMPLES
@given(data=st.data())
def test_fast_conversion_gives_the_same(name: str, data: st.DataObject) -> None:
    page = data.draw(_pages(name, fit=True))
    slow = [CONVERTERS[name].convert(record) for record in page.records]
    assert repr(convert_page(name, page)) == repr(slow)


class FastConverter(RecordConverter):
    """Refuses records of which all values must be converted."""

    @override
    def convert(self, record: Mapping[str, Any], *, is_plain: bool = False) -> tuple[dict[str, Any], dict[str, str]]:
        if not is_plain:
            raise NotImplementedError
        return super().convert(record, is_plain=True)


def is_fast(page: Page, properties: Mapping[str, Any] = SCHEMAS["offers"]["properties"]) -> bool:
    converter = FastConverter(properties)
    try:
        return bool([*converter.convert_all(page.records, is_clean=page.is_clean)])
    except NotImplementedError:
        return False


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"id": '"1"', "name": "null", "payout": "2.50", "updated_at": '"2025-01-01T00:00:00Z"', "filter_bots": "true"},
        {"id": "null"},
        {"payout": '"free"', "updated_at": '"soon"'},
        {"metadata": '{"geo": ["US", {"rate": 0.10, "cap": null}], "big": 18446744073709551616}'},
        {"metadata": '{"a": ' * 99 + "1" + "}" * 99},
    ],
)
def test_conforming_page(fields: dict[str, str]) -> None:
    assert is_fast(_offers(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "5"},
        {"name": r'"\u0000"'},
        {"name": r'"\ud800"'},
        {"filter_bots": "1"},
        {"filter_bots": r'"\ud800"'},
        {r"\ud800": "1"},
        {"metadata": "[]"},
        {"metadata": '{"rate": NaN}'},
        {"metadata": '{"rates": [1e309]}'},
        {"metadata": '{"rates": [1e-400]}'},
        {"colour": '"red"'},
    ],
)
def test_nonconforming_page(fields: dict[str, str]) -> None:
    assert not is_fast(_offers(**fields))


def test_only_the_record_that_does_not_conform_is_converted_value_by_value() -> None:
    page = _page("offers", [{"id": '"1"'}, {"id": '"2"', "payout": '"free"'}])
    assert [(record["id"], [*changed]) for record, changed in convert_page("offers", page)] == [
        ("1", []),
        ("2", ["payout"]),
    ]


def test_field_names_that_are_not_valid_in_python() -> None:
    properties = {"id": {"type": ["string"]}, "e-mail": {"type": ["string", "null"]}, "class": {}}
    page = _page("records", [{"id": '"1"', "e-mail": '"a@b.c"', "class": "7"}])
    assert is_fast(page, properties)
    converter = RecordConverter(properties)
    assert [*converter.convert_all(page.records, is_clean=page.is_clean)] == [(page.records[0], {})]
    assert not is_fast(_page("records", [{"id": '"1"', "e-mail": "5"}]), properties)


def converted(**fields: Any) -> Any:
    """Return the converted value of one field, and the reason if it was replaced."""
    record, changed = OFFERS.convert(fields)
    (name,) = fields
    assert changed.keys() <= {name}
    return record[name], changed.get(name, "")


@pytest.mark.parametrize(
    "given,sent",
    [
        ("2025-12-15T09:12:00Z", "2025-12-15T09:12:00+00:00"),
        ("2025-12-15t09:12:00z", "2025-12-15T09:12:00+00:00"),
        ("2025-11-01T14:30:00", "2025-11-01T14:30:00+00:00"),
        ("2025-11-01 14:30:00.250", "2025-11-01T14:30:00.250000+00:00"),
        ("2025-11-01T14:30:00+02:00", "2025-11-01T12:30:00+00:00"),
        ("2025-11-01T14:30:00.123456789Z", "2025-11-01T14:30:00.123456+00:00"),
        ("2025-11-01T143000.1Z", "2025-11-01T14:30:00.100000+00:00"),
        ("0001-01-01T00:00:00", "0001-01-01T00:00:00+00:00"),
        ("2025-11-01", "2025-11-01T00:00:00+00:00"),
        (" 2025-11-01T14:30:00Z\n", "2025-11-01T14:30:00+00:00"),
        ("Wed, 01 Jan 2025 00:00:00 GMT", "2025-01-01T00:00:00+00:00"),
        ("Mon, 15 Dec 2025 09:12:00 +0200", "2025-12-15T07:12:00+00:00"),
        ("wed, 1 jan 2025 00:00:00 gmt", "2025-01-01T00:00:00+00:00"),
    ],
)
def test_times_are_emitted_in_utc(given: str, sent: str) -> None:
    assert converted(created_at=given) == (sent, "")


@pytest.mark.parametrize(
    "given",
    [
        *("", "soon", "2025-13-01", 1734253920, True, ["2025-11-01"], "2025-01-01\udc00"),
        *("0001-01-01T00:00:00+14:00", "1712011231530"),
        *("Wed, 32 Jan 2025 00:00:00 GMT", "Wed, 01 Jan 2025", "z" * 10),
        *("Wed, 01 Jan 99999 00:00:00 GMT", "Wed, 01 Jan 2025 00:00:00 +9999"),
    ],
)
def test_invalid_time_is_null(given: Any) -> None:
    assert converted(updated_at=given) == (None, "is not a valid time, sent as null")


def test_emitted_times_sort_as_text() -> None:
    times = ["2025-01-01T00:00:00Z", "2025-01-01T00:00:00.000001", "2025-01-01T01:00:00.5+01:00", "2025-01-01T00:00:01"]
    emitted = [utc_text(time) for time in times]
    assert sorted(emitted) == emitted == sorted(emitted, key=parse_time)


@pytest.mark.parametrize("given", [None, 5, b"2025-01-01", "soon", "9999-12-31T23:59:59-01:00"])
def test_parse_time_raises_value_error(given: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_time(given)


@pytest.mark.parametrize(
    "given,sent",
    [
        (Decimal("12345678901234.123456789"), "12345678901234.123456789"),
        (Decimal("0.1"), "0.1"),
        ("2.50", "2.50"),
        (" 2.5 ", "2.5"),
        (3, "3"),
        (2**70, str(2**70)),
        ("-0.01", "-0.01"),
    ],
)
def test_payout_keeps_every_digit(given: Any, sent: str) -> None:
    payout, reason = converted(payout=given)
    assert (str(payout), reason) == (sent, "")


@pytest.mark.parametrize(
    "given",
    ["", "free", "1_000", "NaN", "sNaN", "Infinity", float("nan"), float("inf"), True, {}, [1], "1e9999999", 10**400],
)
def test_invalid_payout_is_null(given: Any) -> None:
    payout, reason = converted(payout=given)
    assert payout is None
    assert reason.startswith("is not a number")


@pytest.mark.parametrize(
    "given,sent", [(True, True), (False, False), ("false", False), ("TRUE", True), (0, False), (1, True), ("0", False)]
)
def test_booleans(given: Any, sent: bool) -> None:  # noqa: FBT001
    assert converted(filter_bots=given) == (sent, "")


def test_invalid_boolean_is_null() -> None:
    assert converted(filter_bots="maybe") == (None, "is not true or false, sent as null")


@pytest.mark.parametrize(
    "given,sent",
    [
        (4521, "4521"),
        (Decimal("4.50"), "4.50"),
        (True, "true"),
        ({"é": [1, Decimal("2.50"), None]}, '{"é":[1,2.50,null]}'),
        (["a\x00", float("nan")], f'["a{REPLACED}",null]'),
    ],
)
def test_conversion_to_text(given: Any, sent: str) -> None:
    assert converted(name=given) == (sent, "")


def test_nan_in_text_field_is_null() -> None:
    assert converted(name=float("nan")) == (None, "contains values that a target cannot store, sent as null")


@pytest.mark.parametrize("given", ["a\x00b", "a\udfffb"])
def test_unstorable_characters_are_replaced(given: str) -> None:
    reason = "contains values that a target cannot store, replaced"
    assert converted(name=given) == (f"a{REPLACED}b", reason)
    assert converted(metadata={given: [{"deep": given}]}) == (
        {f"a{REPLACED}b": [{"deep": f"a{REPLACED}b"}]},
        reason,
    )


def test_metadata_is_unchanged() -> None:
    metadata = {"text": "ß", "number": Decimal("0.10"), "list": [1, None, True], "deep": {"": {}}}
    assert converted(metadata=metadata) == (metadata, "")


@pytest.mark.parametrize("given", [float("nan"), float("-inf"), Decimal("1e309")])
def test_unstorable_numbers_in_metadata_are_null(given: Any) -> None:
    assert converted(metadata={"rate": given}) == (
        {"rate": None},
        "contains values that a target cannot store, replaced",
    )


def test_invalid_metadata_is_null() -> None:
    assert converted(metadata=["geo"]) == (None, "is not an object, sent as null")


def test_missing_fields_are_null() -> None:
    expected = {**dict.fromkeys(SCHEMAS["offers"]["properties"]), "id": "1"}
    assert OFFERS.convert({"id": "1"}) == (expected, {})
    assert convert_page("offers", _offers(id='"1"')) == [(expected, {})]


def test_unknown_field_is_ignored() -> None:
    record, changed = OFFERS.convert({"id": "1", "colour": "red"})
    assert "colour" not in record
    assert changed == {"colour": "is not in the schema, ignored"}


@pytest.mark.parametrize(
    "given,sent,reason",
    [
        (["7", 8], [7, 8], ""),
        ([7, None], [7], "has an item that is null, replaced"),
        ([1.5, 8], [8], "has an item that is not a 64-bit integer, replaced"),
        ("7", None, "is not an array, sent as null"),
    ],
)
def test_invalid_items_are_left_out(given: Any, sent: Any, reason: str) -> None:
    converter = RecordConverter({"lists": {"type": ["array", "null"], "items": {"type": ["integer"]}}})
    record, changed = converter.convert({"lists": given})
    assert (record["lists"], changed.get("lists", "")) == (sent, reason)


@pytest.mark.parametrize(
    "given", ["lst_3", Decimal("1.5"), "", True, [], {}, float("nan"), 2**63, -(2**63) - 1, "1_0", "1e999"]
)
def test_invalid_integer_is_null(given: Any) -> None:
    record, changed = CONVERTERS["contacts"].convert({"list_id": given})
    assert record["list_id"] is None
    assert changed["list_id"].endswith(", sent as null")


@pytest.mark.parametrize("given", [2**63 - 1, -(2**63), str(2**63 - 1), Decimal(2**63 - 1), Decimal("7.0"), " 7 "])
def test_valid_integer(given: Any) -> None:
    record, changed = CONVERTERS["contacts"].convert({"list_id": given})
    assert (record["list_id"], type(record["list_id"]), changed) == (int(given), int, {})
