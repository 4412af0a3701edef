"""HTTP connections with limits on the time and size of a whole response.

The timeout of requests restarts with each byte, so a server that sends a byte now and then could block a
request forever.
"""

from __future__ import annotations

import io
import time
from contextlib import closing
from http.client import HTTPResponse
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from singer_sdk.exceptions import FatalAPIError
from typing_extensions import override

MAX_BODY = 128 * 2**20  # bytes after decompression
# Bytes, about a page: fewer reads from the socket mean fewer thread switches.
_BUFFER = 1 << 17


class StaleConnectionError(Exception):
    """The server has closed a keep-alive connection."""


class LimitedAdapter(HTTPAdapter):
    """Reads whole responses, within a timeout and a maximum size."""

    @override
    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        if not issubclass(pool.ConnectionCls, _LimitedConnection):
            pool.ConnectionCls = type("LimitedConnection", (_LimitedConnection, type(pool).ConnectionCls), {})
        return pool

    @override
    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request and read the body of the response.

        Raises:
            FatalAPIError: If the body is larger than `MAX_BODY`.
        """
        try:
            response = super().send(request, *args, **{**kwargs, "stream": True})
        except StaleConnectionError:  # which urllib3 has dropped
            return self.send(request, *args, **kwargs)
        with closing(response.raw) as raw:  # a connection is kept alive if its body was read completely
            response.raw = io.BytesIO(_read_body(raw, request.url))
        return response


def _read_body(raw: Any, url: str | None) -> bytearray:
    body = bytearray()
    while chunk := raw.read(_BUFFER, decode_content=True):
        body += chunk
        if len(body) > MAX_BODY:
            raise FatalAPIError(f"{url}: the response is larger than {MAX_BODY >> 20} MB. Set a smaller page_size.")
    return body


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket, with one timeout for all reads together."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._file = sock.makefile("rb", buffering=0)
        self._deadline = time.monotonic() + sock.gettimeout()

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the file from which `http.client` reads a response."""
        return io.BufferedReader(self, _BUFFER)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(remaining)
        return self._file.readinto(buffer)  # type: ignore[no-any-return]

    def close(self) -> None:
        self._file.close()
        super().close()


class _LimitedResponse(HTTPResponse):
    """A response that must be read within the timeout of its socket."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        limited: Any = _DeadlineReader(sock)
        super().__init__(limited, *args, **kwargs)


class _LimitedConnection:
    """The limits of all kinds of connections: direct, over TLS, and to a proxy."""

    response_class = _LimitedResponse
    sock: Any
    answered: Any = None  # the socket of the last response

    def getresponse(self) -> Any:
        is_kept, self.answered = self.sock is self.answered, self.sock
        try:
            return super().getresponse()  # type: ignore[misc]
        except ConnectionError as error:
            if is_kept:
                raise StaleConnectionError from error
            raise
