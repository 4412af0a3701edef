"""Writes models/sources.yml from the schemas of the tap: `python -m examples.dbt.write_sources`."""

from __future__ import annotations

from inspect import cleandoc
from pathlib import Path
from typing import Any

import yaml
from singer_sdk.streams import Stream

from tap_trackly.tap import TapTrackly

SOURCES = Path(__file__).parent / "models" / "sources.yml"
HEADER = "# Written by `python -m examples.dbt.write_sources`.\n"
# The statuses of the vendor's pages. Another one is a question to the vendor, not an error: the test only warns.
STATUSES = {
    "offers": ["active", "paused", "archived"],
    "lists": ["active", "paused", "suspended", "deleted"],
    "audiences": ["active", "archived"],
    "creatives": ["active", "paused", "archived"],
    "schedules": ["draft", "off", "on", "complete", "archive"],
}
# At least once in 24 hours, each record is sent again.
FRESHNESS = {"warn_after": {"count": 26, "period": "hour"}, "error_after": {"count": 50, "period": "hour"}}


def main() -> None:
    """Write the file."""
    SOURCES.write_text(sources(), encoding="utf-8")


def sources() -> str:
    """Return the text of sources.yml."""
    tap = TapTrackly(config={"api_key": "unused"})
    source = {
        "name": "trackly",
        "description": "A Trackly SMS account, loaded by tap-trackly into target-postgres.",
        "schema": "{{ var('trackly_schema') }}",
        "config": {"loaded_at_field": "_sdc_extracted_at", "freshness": FRESHNESS},
        "tables": [table(stream) for stream in tap.streams.values()],
    }
    return HEADER + yaml.safe_dump({"version": 2, "sources": [source]}, sort_keys=False, allow_unicode=True, width=120)


def table(stream: Stream) -> dict[str, Any]:
    """Return the table of a stream; that of contacts is not loaded by default."""
    keys = list(stream.primary_keys)
    table: dict[str, Any] = {"name": stream.name, "description": cleandoc(type(stream).__doc__ or "").splitlines()[0]}
    if stream.name == "contacts":
        table["config"] = {"enabled": "{{ var('trackly_contacts', false) }}"}
    if len(keys) > 1:
        table["data_tests"] = [{"unique_together": {"arguments": {"columns": keys}}}]
    columns = [column(stream, name, field) for name, field in stream.schema["properties"].items()]
    loaded = {"name": "_sdc_extracted_at", "description": "Time when the tap read this version of the record, in UTC"}
    return {**table, "columns": [*columns, loaded]}


def column(stream: Stream, name: str, field: dict[str, Any]) -> dict[str, Any]:
    """Return the column of a field."""
    tests: list[Any] = []
    if name in stream.primary_keys:
        tests = ["not_null"] if len(stream.primary_keys) > 1 else ["unique", "not_null"]
    elif name == "status" and stream.name in STATUSES:
        tests = [{"accepted_values": {"arguments": {"values": STATUSES[stream.name]}, "config": {"severity": "warn"}}}]
    return {"name": name, "description": field["description"], **({"data_tests": tests} if tests else {})}


if __name__ == "__main__":
    main()
