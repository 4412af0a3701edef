"""Shows how many offers each contender delivers when a request fails: `python -m benchmarks.faults`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from benchmarks.commands import dlt, ours, template
from benchmarks.running import Contender, Run, run

OFFERS = 620
MORE_OFFERS = {"capped": 1_200, "rate": 2_400}
CASES = {
    None: "none",
    "empty": "page 3 is empty, once",
    "error-200": 'page 3 is a 200 with `{"error": …}`, once',
    "error-beside": 'page 3 is a 200 with `{"error": …}`, no offers and a `total` of 0, once',
    "half": "page 3 is a 200 with truncated JSON, once",
    "500": "page 3 is a 500, once",
    "reset": "page 3 is a connection reset, once",
    "429": "page 3 is a 429, once",
    "archived": "an offer on page 1 is archived after page 2 was read",
    "redirect": "page 3 redirects to another host, once",
    "capped": "1,200 offers, but `total` is capped at 1,000",
    "rate": "2,400 offers, a limit of 3 requests per second, beyond it a 429 with `Retry-After: 1`",
}
_INCOMPLETE = re.compile(r"WARNING.*\b(in|not )complete", re.IGNORECASE)
"""A log line that says that the read may be incomplete."""


def main() -> None:
    """Print the table, row by row."""
    contenders = [ours("tap-trackly", max_retries=2), template(), dlt(load=True)]
    print_row(["fault", *(contender.name for contender in contenders)])
    print_row(["---"] * (len(contenders) + 1))
    for fault, words in CASES.items():
        print_row([words, *(outcome(contender, fault) for contender in contenders)])


def outcome(contender: Contender, fault: str | None) -> str:
    """Describe what a contender delivers despite a fault."""
    offers = MORE_OFFERS.get(fault or "", OFFERS)
    result = run(contender, records=offers, fault=fault)
    words = f"{result.delivered:,} of {offers:,}, exit {result.exit_status}"
    if fault == "redirect":
        words += f", {_key(result)}"
    return f"{words}, warned" if _INCOMPLETE.search(result.errors) else words


def print_row(cells: Sequence[str]) -> None:
    """Print a row of a Markdown table."""
    print(f"| {' | '.join(cells)} |", flush=True)


def _key(result: Run) -> str:
    return "**key sent there**" if result.server.key_sent_elsewhere else "key kept"


if __name__ == "__main__":
    main()
