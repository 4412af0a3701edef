"""The least that a reader can do: ask for the pages of both listings, parse them, write a line for each record.

It has no schema, no types, no state, no retries and no proof that it read everything.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import msgspec
import urllib3

_STATUSES = ("", "&status=archived")


def main() -> None:
    """Read the account at an address with a key and a number of requests at once."""
    api_url, api_key, concurrency = sys.argv[1], sys.argv[2], int(sys.argv[3])
    encoder, decoder = msgspec.json.Encoder(), msgspec.json.Decoder()
    http = urllib3.PoolManager(maxsize=concurrency, headers={"X-Api-Key": api_key})

    def deliver(status: str, number: int) -> int:
        answer = http.request("GET", f"{api_url}/offers?page={number}&per_page=100{status}")
        page = decoder.decode(answer.data)
        os.write(1, encoder.encode_lines(page["offers"]))
        return int(page["pagination"]["total_pages"])

    with ThreadPoolExecutor(concurrency) as pool:
        totals = list(pool.map(deliver, _STATUSES, (1, 1)))
        rest = [
            (status, number) for status, total in zip(_STATUSES, totals, strict=True) for number in range(2, total + 1)
        ]
        list(pool.map(lambda page: deliver(*page), rest))


if __name__ == "__main__":
    main()
