"""HTTP: limits the time and size of responses, and describes failed connections."""

import io
import re
import time
from collections.abc import Iterator
from http.client import BadStatusLine
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from typing_extensions import override
from urllib3 import Retry
from urllib3.exceptions import ConnectTimeoutError, HTTPError, InvalidHeader, NewConnectionError, SSLError

from tap_trackly.log import one_line

LONGEST_WAIT = 300.0  # seconds that the API may ask for
MAX_BODY = 32 * 2**20  # bytes after decompression
_CHUNK = 1 << 17  # bytes, about a page
# What sending a request and reading the response may raise; TypeError for a proxy without a host.
ERRORS = (HTTPError, OSError, TypeError, ValueError)
# What to do, by HTTP status.
ADVICE = {
    401: "Check the setting api_key; keys are created under Settings > API Keys.",
    403: "The account has no access: deselect the stream, or ask the owner of the account or Trackly.",
    404: "Check the setting api_url.",
}


class _Body(io.BytesIO):
    """The body of a response, which requests takes in one piece: small ones fragment the memory."""

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        """Yield the body, as the method of this name of urllib3's responses does."""
        yield self.getvalue()


class LimitedAdapter(HTTPAdapter):
    """Reads whole responses. The timeout of requests restarts with each byte; here it limits the whole body."""

    @override
    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request, and read the body of the response.

        Raises:
            OSError: If the body is larger than `MAX_BODY`, or takes longer than the timeout.
        """
        response = super().send(request, *args, **{**kwargs, "stream": True})
        deadline = time.monotonic() + kwargs["timeout"]
        body = bytearray()
        with response.raw as raw:  # a connection is kept alive if its body was read completely
            while chunk := raw.read1(_CHUNK, decode_content=True):
                body += chunk
                if len(body) > MAX_BODY:
                    raise OSError(f"more than {MAX_BODY >> 20} MB. Set a smaller page_size")
                if time.monotonic() > deadline:
                    raise TimeoutError("timed out")
        response.raw = _Body(body)
        return response


def explain(error: Exception) -> tuple[str, bool]:
    """Return why there is no response, and whether only the user can change it."""
    *_, cause = _chain(error)
    words = one_line(getattr(cause, "strerror", None) or str(cause) or "timed out")
    if type(cause) in {BadStatusLine, ValueError}:  # their text has a part of the response
        words = "the response is not HTTP"
    if isinstance(error, TypeError | ValueError):  # the text may contain the API key or the password of a proxy
        return f"{type(error).__name__}. Check api_key, api_url, user_agent, HTTPS_PROXY and HTTP_PROXY.", True
    if re.search("certificate (verify|bundle)", words):
        return f"{words}. Set REQUESTS_CA_BUNDLE to a file with the authority's certificate.", True
    return f"{words}.{' Check the setting api_url.' if is_unreachable(error) else ''}", False


def is_unreachable(error: BaseException) -> bool:
    """Return whether an error was caused by a connection that could not be made."""
    return any(isinstance(each, NewConnectionError | ConnectTimeoutError | SSLError) for each in _chain(error))


def retry_after(response: requests.Response | None) -> float:
    """Return the seconds of `Retry-After`, at most `LONGEST_WAIT`; 0 without a valid header."""
    header = "" if response is None else response.headers.get("Retry-After", "").strip()
    try:
        seconds = float(header) if re.fullmatch(r"\d+(\.\d*)?", header, re.ASCII) else Retry().parse_retry_after(header)
    except (InvalidHeader, OverflowError, ValueError):
        return 0.0
    return min(max(0.0, seconds), LONGEST_WAIT)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__
