"""The requests of one read: which errors end what, and how requests slow down after a rate limit."""

from __future__ import annotations

import threading
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import cast

import msgspec
import requests
from backoff.types import Details
from singer_sdk import metrics
from singer_sdk.exceptions import FatalAPIError, RetriableAPIError
from singer_sdk.helpers.types import Context
from singer_sdk.streams import RESTStream
from singer_sdk.streams.rest import PageContext

from tap_trackly import transport
from tap_trackly.log import count
from tap_trackly.pagination import ListingError, PageResponse, no_such_page
from tap_trackly.prefetch import Throttle, Wanted
from tap_trackly.records import parse_time


class AccountError(FatalAPIError):
    """An error that every stream would get."""


class RateLimitError(RetriableAPIError):
    """The API asks for fewer requests.

    Attributes:
        refusals: How many requests it has refused since the last success; concurrent ones count once.
    """

    def __init__(self, message: str, response: requests.Response, refusals: int) -> None:
        super().__init__(message, response)
        self.refusals = refusals


class UnreachableError(RetriableAPIError):
    """No connection to the API was made."""


class Connection:
    """The requests of one read, which slow down together after a rate limit.

    Attributes:
        sent: The number of requests.
        started: When the API sent the first response, by its `Date` header; None if that is not known.
    """

    def __init__(self, stream: RESTStream[int]) -> None:
        self.sent = 0
        self.started: datetime | None = None
        self._stream = stream
        self._session = stream.requests_session  # created here, before several workers create it at once
        self._throttle = Throttle(int(stream.config["concurrency"]))
        self._lock = threading.Lock()

    def fetch(self, wanted: Wanted) -> PageResponse:
        """Request a page.

        Raises:
            AccountError: If every stream would get this error.
            ListingError: If the listing cannot be read.
        """
        stream = self._stream
        context = {"status": wanted.listing} if wanted.listing else None
        request = stream.get_http_request(page=PageContext(stream_context=context, next_page_token=wanted.number))
        if "per_page" in request.params:
            request.params["per_page"] = wanted.size
        prepared = stream.build_prepared_request(
            method=request.method, url=request.url, params=request.encode_params(), headers=request.headers
        )
        send = self._send if wanted.is_announced else partial(self._send_unannounced, wanted.number)
        try:
            return cast("PageResponse", stream.request_decorator(send)(prepared, context))
        except AccountError:
            raise
        except FatalAPIError as error:
            raise ListingError(str(error)) from None

    def _send_unannounced(
        self, number: int, request: requests.PreparedRequest, context: Context | None
    ) -> requests.Response:
        """Request a page after the last announced one: whatever comes, it is not an error."""
        try:
            response = cast("PageResponse", self._send(request, context))
            response.page = msgspec.structs.replace(response.page, doubt="")
        except (AccountError, RateLimitError):
            raise
        except (FatalAPIError, RetriableAPIError) as error:
            if isinstance(error, RetriableAPIError) and error.response is None:
                raise
            response = PageResponse()
            response.page = no_such_page(number, str(error))
        return response

    def _send(self, request: requests.PreparedRequest, _: Context | None) -> requests.Response:
        stream = self._stream
        tags = {metrics.Tag.STREAM: stream.name, metrics.Tag.ENDPOINT: stream.path}
        with self._throttle.slot(), metrics.Timer(metrics.Metric.HTTP_REQUEST_DURATION, tags) as timer:
            with self._lock:
                self.sent += 1
            try:
                response = self._session.send(request, timeout=stream.timeout, allow_redirects=stream.allow_redirects)
            except transport.ResponseTooLargeError:
                limit = f"{transport.MAX_BODY >> 20} MB"
                message = f"{request.url}: the response is larger than {limit}. Set a smaller page_size."
                raise FatalAPIError(message) from None
            except transport.ERRORS as error:
                raise self._connection_error(str(request.url), error) from None
            timer.tags[metrics.Tag.HTTP_STATUS_CODE] = response.status_code
            self._session.cookies.update(response.cookies)  # a load balancer may keep a client on one server
            self.started = self.started or _date_of(response)
            try:
                stream.validate_response(response)
            except RetriableAPIError as error:
                if response.status_code != HTTPStatus.TOO_MANY_REQUESTS and "Retry-After" not in response.headers:
                    raise
                self._throttle.slow_down(max(1.0, transport.retry_after(response)))
                raise RateLimitError(str(error), response, self._throttle.refusals) from None
        self._throttle.speed_up()
        return response

    def _connection_error(self, url: str, error: Exception) -> FatalAPIError | RetriableAPIError:
        words, advice = transport.connection_words(error), transport.connection_advice(error)
        if advice:
            return AccountError(f"{url}: {words}. {advice}")
        if transport.is_unreachable(error):
            return UnreachableError(f"{self._stream.url_base}: {words}. Check the setting api_url.")
        return RetriableAPIError(f"{url}: {words}.")


def give_up(details: Details) -> None:
    """Raise the error of the last try."""
    error, tries = details["exception"], details["tries"]
    kind = AccountError if isinstance(error, UnreachableError) else FatalAPIError
    raise kind(f"{error} Gave up after {count(tries, 'try').replace('trys', 'tries')}.")


def _date_of(response: requests.Response) -> datetime | None:
    try:
        return parse_time(response.headers.get("Date"))
    except ValueError:
        return None
