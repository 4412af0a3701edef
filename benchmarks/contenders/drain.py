"""Requests the same pages and discards them, to show how fast the server can be read."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit


async def drain(api_url: str, concurrency: int) -> None:
    """Request all pages of the default listing over several connections."""
    first = json.loads(await _read(api_url, iter([1])))
    numbers = iter(range(2, first["pagination"]["total_pages"] + 1))
    await asyncio.gather(*(_read(api_url, numbers) for _ in range(concurrency)))


async def _read(api_url: str, numbers: Iterator[int]) -> bytes:
    url = urlsplit(api_url)
    body = b""
    reader, writer = await asyncio.open_connection(url.hostname, url.port, limit=1 << 20)
    for number in numbers:
        writer.write(f"GET {url.path}/offers?page={number}&per_page=100 HTTP/1.1\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(head.rpartition(b"Content-Length:")[2]))
    writer.close()
    return body


if __name__ == "__main__":
    asyncio.run(drain(sys.argv[1], int(sys.argv[2])))
