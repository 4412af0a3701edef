"""HTTP: responses that are limited in time and size, and words for connections that failed."""

from __future__ import annotations

import io
import re
import ssl
import time
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPResponse
from socket import gaierror
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import ConnectTimeout, InvalidProxyURL, InvalidSchema
from typing_extensions import override
from urllib3 import Retry
from urllib3.exceptions import HTTPError, InvalidHeader

from tap_trackly.log import one_line

LONGEST_WAIT = 300.0  # seconds that the API may ask for
MAX_BODY = 32 * 2**20  # bytes after decompression
_CHUNK = 1 << 17  # bytes, about a page
# What sending a request and reading the response may raise; TypeError for a proxy without a host.
ERRORS = (requests.RequestException, HTTPError, OSError, TypeError, ValueError)
_CHECK = "Check the settings api_key and api_url, and the environment variables HTTPS_PROXY, HTTP_PROXY and ALL_PROXY."


class ResponseTooLargeError(Exception):
    """A response is larger than `MAX_BODY`."""


class _FinalResponse(HTTPResponse):
    """The response after any number of informational ones, such as 103 Early Hints, which http.client takes for it."""

    @override
    def begin(self) -> None:
        super().begin()
        while self.status < HTTPStatus.OK and self.status != HTTPStatus.SWITCHING_PROTOCOLS:
            self.headers = None  # type: ignore[assignment]  # begin() does nothing if they were read
            super().begin()


class LimitedAdapter(HTTPAdapter):
    """Reads whole responses. The timeout of requests restarts with each byte; here it limits the whole body."""

    @override
    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        if pool.ConnectionCls.response_class is not _FinalResponse:
            pool.ConnectionCls = type("Connection", (pool.ConnectionCls,), {"response_class": _FinalResponse})
        return pool

    @override
    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request, and read the body of the response.

        Raises:
            ResponseTooLargeError: If the body is larger than `MAX_BODY`.
        """
        response = super().send(request, *args, **{**kwargs, "stream": True})
        deadline = time.monotonic() + kwargs["timeout"]
        body = bytearray()
        with closing(response.raw) as raw:  # a connection is kept alive if its body was read completely
            while chunk := raw.read1(_CHUNK, decode_content=True):
                body += chunk
                if len(body) > MAX_BODY:
                    raise ResponseTooLargeError
                if time.monotonic() > deadline:
                    raise TimeoutError("timed out")
        response.raw = io.BytesIO(body)
        return response


def connection_advice(error: Exception) -> str:
    """Return what the user must do about an error of a connection; "" for a transient error."""
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError) or "certificate bundle" in str(cause):
        return "Set the environment variable REQUESTS_CA_BUNDLE to a file with the certificate of the authority."
    if "Tunnel connection failed: 407" in str(cause):
        return "Check the user and password in the environment variable HTTPS_PROXY or HTTP_PROXY."
    if isinstance(error, InvalidSchema | InvalidProxyURL):
        return f"{_CHECK} SOCKS needs the package PySocks."
    is_closed = isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError)
    is_invalid = isinstance(error, TypeError | ValueError) and not isinstance(error, requests.JSONDecodeError)
    return _CHECK if is_invalid or (isinstance(cause, ssl.SSLError) and not is_closed) else ""


def connection_words(error: Exception) -> str:
    """Return why a connection failed. The texts of invalid values are left out: they may contain the API key."""
    cause = _cause(error)
    if isinstance(error, TypeError | ValueError):
        return type(error).__name__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"certificate verification failed ({cause.verify_message})"
    return one_line(getattr(cause, "strerror", None) or str(cause) or "timed out")


def is_unreachable(error: Exception) -> bool:
    """Return whether no connection was made."""
    return isinstance(error, ConnectTimeout) or isinstance(_cause(error), ConnectionRefusedError | gaierror)


def retry_after(response: requests.Response | None) -> float:
    """Return the seconds of `Retry-After`, at most `LONGEST_WAIT`; 0 without a valid header."""
    header = "" if response is None else response.headers.get("Retry-After", "").strip()
    try:
        seconds = float(header) if re.fullmatch(r"\d+(\.\d*)?", header, re.ASCII) else Retry().parse_retry_after(header)
    except (InvalidHeader, OverflowError, ValueError):
        return 0.0
    return min(max(0.0, seconds), LONGEST_WAIT)


def _cause(error: BaseException) -> BaseException:
    while earlier := error.__cause__ or error.__context__:
        error = earlier
    return error
