"""Values made fit for any target."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tap_trackly.records import converters, fit, parse_time
from tap_trackly.streams import OffersStream

FIT = converters(OffersStream.schema["properties"])
REPLACED = "\ufffd"


def fitted(**fields: Any) -> tuple[dict[str, Any], list[str]]:
    record, replaced, unknown = fit(fields, FIT)
    assert unknown == []
    return record, replaced


@pytest.mark.parametrize(
    "given,sent",
    [
        ("2025-12-15T09:12:00Z", "2025-12-15T09:12:00+00:00"),
        ("2025-12-15t09:12:00z", "2025-12-15T09:12:00+00:00"),
        ("2025-11-01T14:30:00", "2025-11-01T14:30:00+00:00"),
        ("2025-11-01 14:30:00.250", "2025-11-01T14:30:00.250000+00:00"),
        ("2025-11-01T14:30:00+02:00", "2025-11-01T12:30:00+00:00"),
        ("2025-11-01T14:30:00.123456789Z", "2025-11-01T14:30:00.123456+00:00"),
        ("2025-11-01", "2025-11-01T00:00:00+00:00"),
        (" 2025-11-01T14:30:00Z\n", "2025-11-01T14:30:00+00:00"),
    ],
)
def test_times_leave_in_utc(given: str, sent: str) -> None:
    assert fitted(created_at=given) == ({"created_at": sent}, [])


@pytest.mark.parametrize(
    "given", ["", "soon", "2025-13-01", 1734253920, True, ["2025-11-01"], "0001-01-01T00:00:00+14:00"]
)
def test_what_is_no_time_becomes_null_with_a_warning(given: Any) -> None:
    assert fitted(updated_at=given) == ({"updated_at": None}, ["field 'updated_at' is no time, sent as null"])


def test_canonical_times_sort_as_text() -> None:
    times = ["2025-01-01T00:00:00Z", "2025-01-01T00:00:00.000001", "2025-01-01T01:00:00.5+01:00", "2025-01-01T00:00:01"]
    canonical = [parse_time(time).isoformat() for time in times]
    assert canonical == sorted(canonical, key=parse_time)
    assert sorted(canonical) == canonical


@pytest.mark.parametrize(
    "given,sent",
    [
        (Decimal("12345678901234.123456789"), "12345678901234.123456789"),
        (Decimal("0.1"), "0.1"),
        ("2.50", "2.50"),
        (" 2.5 ", "2.5"),
        (3, "3"),
        ("-0.01", "-0.01"),
    ],
)
def test_money_keeps_every_digit(given: Any, sent: str) -> None:
    record, replaced = fitted(payout=given)
    assert (str(record["payout"]), replaced) == (sent, [])


@pytest.mark.parametrize(
    "given", ["", "free", "1_000", "NaN", "Infinity", float("nan"), float("inf"), True, {}, [1], "1e9999999"]
)
def test_a_payout_that_is_no_number_becomes_null_with_a_warning(given: Any) -> None:
    record, replaced = fitted(payout=given)
    assert record == {"payout": None}
    assert len(replaced) == 1
    assert replaced[0].startswith("field 'payout' is no ")


@pytest.mark.parametrize(
    "given,sent", [(True, True), (False, False), ("false", False), ("TRUE", True), (0, False), (1, True), ("0", False)]
)
def test_booleans(given: Any, sent: bool) -> None:  # noqa: FBT001
    record, replaced = fitted(filter_bots=given)
    assert record["filter_bots"] is sent
    assert not replaced


def test_what_is_no_boolean_becomes_null_with_a_warning() -> None:
    assert fitted(filter_bots="maybe") == (
        {"filter_bots": None},
        ["field 'filter_bots' is neither true nor false, sent as null"],
    )


@pytest.mark.parametrize(
    "given,sent", [(4521, "4521"), (Decimal("4.50"), "4.50"), (True, "true"), ({"é": [1]}, '{"é": [1]}')]
)
def test_text_fields_hold_text(given: Any, sent: str) -> None:
    assert fitted(id=given) == ({"id": sent}, [])


@pytest.mark.parametrize("given", ["a\x00b", "a\udfffb"])
def test_what_no_target_can_store_is_replaced_with_a_warning(given: str) -> None:
    assert fitted(name=given, metadata={given: [{"deep": given}]}) == (
        {"name": f"a{REPLACED}b", "metadata": {f"a{REPLACED}b": [{"deep": f"a{REPLACED}b"}]}},
        [
            "field 'name' held what no target can store, replaced",
            "field 'metadata' held what no target can store, replaced",
        ],
    )


def test_metadata_keeps_what_it_holds() -> None:
    metadata = {"text": "ß", "number": Decimal("0.10"), "list": [1, None, True], "deep": {"": {}}}
    assert fitted(metadata=metadata) == ({"metadata": metadata}, [])


def test_numbers_in_metadata_that_json_does_not_know_become_null() -> None:
    record, replaced = fitted(metadata={"rate": float("nan")})
    assert record == {"metadata": {"rate": None}}
    assert len(replaced) == 1


def test_metadata_that_is_no_object_becomes_null_with_a_warning() -> None:
    assert fitted(metadata=["geo"]) == ({"metadata": None}, ["field 'metadata' is no object, sent as null"])


def test_nulls_stay_and_absent_fields_stay_absent() -> None:
    assert fitted(id=None, payout=None, created_at=None, metadata=None) == (
        {"id": None, "payout": None, "created_at": None, "metadata": None},
        [],
    )


def test_arrays_and_whole_numbers_are_converted_item_by_item() -> None:
    schema = {
        "lists": {"type": ["array"], "items": {"type": ["integer"]}},
        "names": {"type": ["array"], "items": {"type": ["string"]}},
    }
    record, replaced, _ = fit({"lists": ["7", 8, None], "names": ["a\x00", 5]}, converters(schema))
    assert record == {"lists": [7, 8, None], "names": [f"a{REPLACED}", "5"]}
    assert replaced == ["field 'names' held what no target can store, replaced"]
    record, replaced, _ = fit({"lists": [1.5, Decimal("1E+30")], "names": "a"}, converters(schema))
    assert record == {"lists": [None, None], "names": None}
    assert len(replaced) == 2


def test_unknown_fields_are_left_out_and_named() -> None:
    assert fit({"id": "1", "colour": "red"}, FIT) == ({"id": "1"}, [], ["colour"])
