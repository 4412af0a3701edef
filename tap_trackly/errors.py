"""Error messages for users: what is wrong and where to fix it, without secrets and personal data."""

from __future__ import annotations

import json
import logging
import re
import ssl
import zlib
from http import HTTPStatus
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from socket import gaierror

from requests.exceptions import ConnectTimeout, InvalidProxyURL, InvalidSchema

MAX_LINE = 400  # characters of a log line
MAX_WORDS = 150  # characters of text from the API in a log line
METRICS_LOGGER = "singer_sdk.metrics"
_MASK = "***"
_SECRET_PART = 8  # consecutive characters that are masked as a part of the secret
# A path or text from a proxy follows, which is not logged.
_KNOWN_FAILURE = re.compile(r"Tunnel connection failed: \d+|Could not find a suitable TLS CA certificate bundle")

_STATUS_ADVICE = {
    401: "Check the setting api_key; keys are created under Settings > API Keys.",
    403: "The API key has no access; ask the owner of the account or Trackly.",
    404: "Check the setting api_url; redirects are not followed.",
    407: "Check the user and password in the environment variable HTTPS_PROXY or HTTP_PROXY.",
}


class LogFilter(logging.Filter):
    """Makes each log line one short line that does not show the API key."""

    secret = ""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the message of a log record."""
        if record.name == METRICS_LOGGER:  # metrics are JSON and contain no text from the API
            return True
        record.msg, record.args = one_line(mask(record.getMessage(), self.secret), MAX_LINE), ()
        if record.exc_info:  # a formatter would not mask the error messages
            record.exc_text = mask(logging.Formatter().formatException(record.exc_info), self.secret)
            record.exc_info = None
        return True


def one_line(text: str, limit: int = MAX_WORDS) -> str:
    """Return a text as one line of limited length, non-printable characters escaped."""
    words = " ".join(text.split())[: limit + 1]
    line = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in words)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def mask(text: str, secret: str) -> str:
    """Return a text without the secret and parts of it, in upper or lower case."""
    if not secret:
        return text
    size = min(_SECRET_PART, len(secret))
    parts = "|".join(re.escape(secret[start : start + size]) for start in range(len(secret) - size + 1))
    # The first character of a part, and the others up to the end of the part or to where the next part begins.
    return re.sub(f"(?ais)((?={parts}).((?!{parts}).){{0,{size - 1}}})+", _MASK, text)


def without_phone_numbers(text: str) -> str:
    """Return a text without runs of seven or more digits."""
    return re.sub(r"\d{7,}", _MASK, text)


def api_words(body: bytes) -> str:
    """Return the error text and code of a response, "" if it has none.

    Source: the vendor's pages on errors: `{"error": "text for people", "code": "word_for_programs"}`, in
    which the code may be missing.
    """
    try:
        answer = json.loads(body)
        return " / ".join(str(answer[name]) for name in ("error", "code", "message") if answer.get(name))
    except (AttributeError, RecursionError, ValueError):  # not an object, too deep, not JSON
        return ""


def status_advice(status: int, words: str, stream: str) -> str:
    """Return advice for a status that is not retried."""
    if status == HTTPStatus.FORBIDDEN and "_not_enabled" in words:
        return f"The account does not have this product; deselect the stream '{stream}'."
    if status < HTTPStatus.BAD_REQUEST:
        status = HTTPStatus.NOT_FOUND
    return _STATUS_ADVICE.get(status, "Trackly does not accept this request.")


def root_cause(error: BaseException) -> BaseException:
    """Return the cause to report: the first error of http.client in a chain, or else the first error."""
    earlier = error.__cause__ or error.__context__
    is_found = isinstance(error, HTTPException) and not isinstance(earlier, HTTPException)
    return error if earlier is None or is_found else root_cause(earlier)


def connection_words(cause: BaseException) -> str:
    """Return why a connection failed, without text from the other side."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"certificate verification failed ({cause.verify_message})"
    if isinstance(cause, RemoteDisconnected | IncompleteRead | TimeoutError | zlib.error):
        return str(cause) or "timed out"
    if known := _KNOWN_FAILURE.match(str(cause)):
        return known[0]
    return getattr(cause, "strerror", None) or type(cause).__name__


def connection_advice(error: BaseException) -> str:
    """Return advice for an error that the user must fix; "" for a transient error."""
    cause = root_cause(error)
    words = connection_words(cause)
    if isinstance(cause, ssl.SSLCertVerificationError) or words.endswith("certificate bundle"):
        return "Set the environment variable REQUESTS_CA_BUNDLE to a file with the certificate of the authority."
    if isinstance(error, InvalidSchema | InvalidProxyURL):
        return "Check the environment variables HTTPS_PROXY, HTTP_PROXY and ALL_PROXY; SOCKS needs the package PySocks."
    if words.endswith(": 407"):
        return _STATUS_ADVICE[407]
    is_closed = isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError | RemoteDisconnected | IncompleteRead)
    is_protocol_error = isinstance(cause, ssl.SSLError | HTTPException) and not is_closed
    if is_protocol_error or isinstance(error, TypeError | ValueError):  # TypeError: a proxy without a host
        return "Check the setting api_url and the environment variables HTTPS_PROXY and HTTP_PROXY."
    return ""


def is_unreachable(error: BaseException) -> bool:
    """Return whether no connection was made."""
    return isinstance(error, ConnectTimeout) or isinstance(root_cause(error), ConnectionRefusedError | gaierror)
