"""One HTTP conversation with Trackly: URL, key, request, checks on the answer, retries, errors in words."""

from __future__ import annotations

import ipaddress
import json
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import cached_property
from http import HTTPStatus
from typing import Any, ClassVar
from urllib.parse import urlencode, urlsplit

import msgspec
import requests
from singer_sdk.authenticators import APIKeyAuthenticator
from singer_sdk.exceptions import FatalAPIError, RetriableAPIError
from singer_sdk.streams import RESTStream

from tap_trackly.deadline import DeadlineAdapter
from tap_trackly.pagination import Listing, Page, PageError, accept

_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_TRY_AGAIN = {408, 429, *range(500, 600)}
_LONGEST_WAIT = 300.0  # seconds
_MOST_WORDS = 200  # characters of an answer that an error may show
_BROKEN_CONNECTION = (
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ConnectionError,
    requests.exceptions.ContentDecodingError,
    requests.exceptions.Timeout,
)


class TracklyClient(RESTStream[int]):
    """Asks one endpoint of Trackly for pages.

    Attributes:
        records_key: The field of an answer that holds the records.
        max_page_size: The largest `per_page` that the endpoint takes.
        paginated: Whether the endpoint takes `page` and `per_page`. One that does not may still answer
            with pages one day, which then are asked for by their number.
    """

    records_key: ClassVar[str]
    max_page_size: ClassVar[int] = 100
    paginated: ClassVar[bool] = True
    # requests would send X-Api-Key on to whatever host the redirect names.
    allow_redirects = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stopped = threading.Event()
        self._not_before = 0.0  # for all requests, on the clock of time.monotonic

    @property
    def url_base(self) -> str:
        """The address that the paths of all endpoints follow."""
        return str(self.config["api_url"]).rstrip("/")

    @property
    def authenticator(self) -> APIKeyAuthenticator:
        """What puts the key into a request."""
        return APIKeyAuthenticator(key="X-Api-Key", value=self.config["api_key"])

    @property
    def http_headers(self) -> dict[str, str]:
        """The headers of each request beside the key."""
        return {"Accept": "application/json"}

    @property
    def timeout(self) -> float:  # type: ignore[override]
        """Seconds that one whole answer may take."""
        return float(self.config["request_timeout"])

    @cached_property
    def requests_session(self) -> requests.Session:
        """The connections to Trackly, kept open between requests."""
        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, DeadlineAdapter(pool_maxsize=int(self.config["concurrency"])))
        # Proxies and certificates of the environment, looked up once instead of with each request.
        found = session.merge_environment_settings(self.url_base, {}, None, None, None)
        session.proxies, session.verify, session.trust_env = found["proxies"], found["verify"], False
        return session

    @cached_property
    def _request_without_query(self) -> requests.PreparedRequest:
        return self.build_prepared_request(method="GET", url=self.get_url(None), headers=self.http_headers)

    def get_url_params(self, context: Mapping[str, Any] | None, next_page_token: int | None) -> dict[str, Any]:
        """Return the query of a request: the listing's filter and the page."""
        query = {**(context or {}), "page": next_page_token}
        if self.paginated:
            query["per_page"] = int(self.config.get("page_size", self.max_page_size))
        elif next_page_token == 1:
            del query["page"]
        return {name: value for name, value in query.items() if value is not None}

    def fetch(self, listing: Listing, number: int) -> Page:
        """Return one page of a listing, asking for it again while that may help.

        Raises:
            FatalAPIError: If it cannot be had; says why and what to do.
        """
        max_retries = int(self.config["max_retries"])
        attempt = 0
        while True:
            attempt += 1
            self._wait_until(self._not_before)
            try:
                return self._ask(listing, number)
            except RetriableAPIError as error:
                if attempt > max_retries:
                    raise FatalAPIError(f"{error} Gave up after {attempt} tries.") from None
                delay = _delay(attempt, error.response)
                self.logger.warning("%s Trying again in %.1f s (%d of %d).", error, delay, attempt, max_retries)
                again_at = time.monotonic() + delay
                if _asks_for_patience(error.response):
                    self._not_before = max(self._not_before, again_at)
                self._wait_until(again_at)

    @contextmanager
    def conversation(self) -> Iterator[None]:
        """Let pages be fetched while the context is open; after it, no request is tried again."""
        self._warn_of_clear_text()
        self._stopped.clear()
        _ = self._request_without_query  # made here once, before several workers would
        try:
            yield
        finally:
            self._stopped.set()

    def _warn_of_clear_text(self) -> None:
        url = urlsplit(self.url_base)
        if url.scheme == "http" and (self.requests_session.proxies or not _is_loopback(str(url.hostname))):
            self.logger.warning("The key travels in clear: the setting api_url is http, not https.")

    def _wait_until(self, moment: float) -> None:
        if self._stopped.wait(max(0.0, moment - time.monotonic())):
            raise FatalAPIError("The run was stopped.")

    def _ask(self, listing: Listing, number: int) -> Page:
        prepared = self._request_without_query.copy()
        if query := urlencode(self.get_url_params({"status": listing.status}, number)):
            prepared.url = f"{prepared.url}?{query}"
        try:
            response = self.requests_session.send(prepared, timeout=self.timeout, allow_redirects=self.allow_redirects)
        except _BROKEN_CONNECTION as error:
            raise RetriableAPIError(f"{prepared.url}: {self.redacted(str(_root_cause(error)))}.") from None
        except (ValueError, requests.exceptions.RequestException) as error:
            # Such as a redirect to what is no address, which requests reads even if it does not follow.
            raise FatalAPIError(f"{prepared.url}: {self.redacted(str(error))}. Check the setting api_url.") from None
        self.validate_response(response)
        try:
            return accept(_parsed(response.content), self.records_key, number, paginated=self.paginated)
        except (ArithmeticError, RecursionError, ValueError) as error:
            reason = error if isinstance(error, PageError) else f"the answer is no JSON ({error})"
            raise RetriableAPIError(f"{prepared.url}: {reason}{self._api_words(response)}.", response) from None

    def validate_response(self, response: requests.Response) -> None:
        """Check the status of an answer.

        Raises:
            RetriableAPIError: If asking again may help.
            FatalAPIError: If the user has to act.
        """
        if response.status_code < HTTPStatus.MULTIPLE_CHOICES:
            return
        message = self.response_error_message(response)
        if response.status_code in _TRY_AGAIN:
            raise RetriableAPIError(message, response)
        raise FatalAPIError(f"{message} {self._advice(response)}")

    def response_error_message(self, response: requests.Response) -> str:
        """Return what a person needs of an error: URL, status and the API's own words."""
        return f"{response.url}: HTTP {response.status_code}{self._api_words(response)}."

    def _advice(self, response: requests.Response) -> str:
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            return "Check the setting api_key; keys are made under Settings > API Keys."
        if response.status_code == HTTPStatus.FORBIDDEN and "_not_enabled" in response.text:
            return f"The account lacks this product; deselect the stream '{self.name}'."
        if response.status_code == HTTPStatus.FORBIDDEN:
            return "The key was understood but may not read; ask the owner of the account or Trackly."
        if response.status_code == HTTPStatus.NOT_FOUND or response.status_code < HTTPStatus.BAD_REQUEST:
            return "Check the setting api_url; the key is sent to no other address."
        return "Trackly does not take this request."

    def _api_words(self, response: requests.Response) -> str:
        """The API's error text and code, `""` if it gave none.

        The vendor's form is `{"error": "text for people", "code": "word_for_programs"}`, in which
        the code may be missing.
        """
        try:
            answer = response.json()
        except (RecursionError, ValueError):
            return ""
        if not isinstance(answer, dict):
            return ""
        words = " / ".join(str(answer[name]) for name in ("error", "code", "message") if answer.get(name))
        return f", {self.redacted(words)}" if words else ""

    def redacted(self, text: str) -> str:
        """Return a text of others as one short line without the key, fit for the log."""
        return " ".join(text.replace(self.config["api_key"], "***").split())[:_MOST_WORDS]


def _parsed(body: bytes) -> Any:
    """The JSON of a body, its fractions as `Decimal`.

    Raises:
        ArithmeticError, RecursionError, ValueError: If it holds none.
    """
    try:
        return _DECODER.decode(body)
    except msgspec.DecodeError:
        # It is fast but refuses NaN, Infinity and halves of surrogate pairs, which records.py can mend.
        return json.loads(body, parse_float=Decimal)


def _delay(attempt: int, response: requests.Response | None) -> float:
    """Seconds to wait before trying again: what the server asks for, else longer each time."""
    asked = _retry_after(response.headers.get("Retry-After", "")) if response is not None else None
    if asked is None or asked < 1:  # without a pause, the server would get all tries within a moment
        asked = 2.0 ** (attempt - 1) * random.uniform(0.5, 1.5)  # noqa: S311
    return min(asked, _LONGEST_WAIT)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _asks_for_patience(response: requests.Response | None) -> bool:
    """Whether a server wants all requests to wait, not only the one that it answered."""
    return response is not None and (
        response.status_code == HTTPStatus.TOO_MANY_REQUESTS or "Retry-After" in response.headers
    )


def _retry_after(header: str) -> float | None:
    if header.strip().isdecimal():
        return float(header)
    try:
        return (parsedate_to_datetime(header) - datetime.now(timezone.utc)).total_seconds()
    except (TypeError, ValueError):
        return None


def _root_cause(error: BaseException) -> BaseException:
    while error.__context__ is not None:
        error = error.__context__
    return error
