"""The minimum that a reader must do: request the pages of both listings, parse them, write a line per record.

It has no schema, no types, no state, no retries and no verification.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import msgspec
import urllib3

_STATUSES = ("", "&status=archived")


def main() -> None:
    """Read the account with the arguments URL, API key and concurrency."""
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
