"""Compares what tap-trackly and a tap from the SDK's template deliver when the API responds otherwise than documented.

Writes the table in docs/answers.md; the text around it stays.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping

from benchmarks.running import PROJECT
from tests.answers import CONTRADICTIONS, OPEN, TRANSIENT
from tests.tap import selecting
from tests.varied_trackly import Variation, keys_in, template_delivers, varied

PAGE = PROJECT / "docs" / "answers.md"
SECTIONS = {"open": OPEN, "contradictions": CONTRADICTIONS, "transient": TRANSIENT}
HEAD = "| what the server does | tap-trackly | a tap from the SDK's template |\n| --- | --- | --- |\n"


def main() -> None:
    """Measure all variations, or those with some words in their name, and write or print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.answers", description=__doc__)
    parser.add_argument("words", nargs="?", default="", help="measure only variations with these words; print them")
    words = parser.parse_args().words
    text = PAGE.read_text()
    for name, variations in SECTIONS.items():
        found = {does: variation for does, variation in variations.items() if words in does}
        lines = [line for line in _lines(found) if not print(line)]
        text = with_table(text, name, lines)
    if not words:
        PAGE.write_text(text)


def with_table(page: str, name: str, lines: list[str]) -> str:
    """Return the page with the table of a section replaced."""
    table = f"<!-- {name} -->\n\n{HEAD}" + "".join(f"{line}\n" for line in lines)
    return re.sub(rf"<!-- {name} -->\n+(\|.*\n)*", lambda _: table, page)


def _lines(variations: Mapping[str, Variation]) -> Iterator[str]:
    for name, variation in variations.items():
        yield f"| {name} | {_tap(variation)} | {_template(variation)} |"


def _tap(variation: Variation) -> str:
    with varied(variation) as trackly:
        run = trackly.run(catalog=selecting(variation.stream))
    delivered = len(trackly.expected & keys_in(variation.stream, run.records_of(variation.stream)))
    end = "Incomplete read" if "Incomplete read" in run.log and not run.status else f"exit {run.status}"
    return f"{delivered:,} of {len(trackly.expected):,}, {end}"


def _template(variation: Variation) -> str:
    status, keys = template_delivers(variation)
    return f"{len(keys):,}, exit {status}"


if __name__ == "__main__":
    main()
