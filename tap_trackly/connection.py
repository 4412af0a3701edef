"""The requests of one read: which errors end what, and how requests slow down after a rate limit."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from http import HTTPStatus
from typing import cast

import msgspec
import requests
from singer_sdk import metrics
from singer_sdk.exceptions import ConfigurationError, FatalAPIError, RetriableAPIError
from singer_sdk.helpers.types import Context
from singer_sdk.streams.rest import PageContext, RESTStream

from tap_trackly import transport
from tap_trackly.pagination import ListingError, PageResponse, no_such_page
from tap_trackly.prefetch import Throttle, Wanted
from tap_trackly.records import parse_time


class RateLimitError(RetriableAPIError):
    """The API asks for fewer requests.

    Attributes:
        refusals: How many requests it has refused since the last success; concurrent ones count once.
    """

    def __init__(self, message: str, response: requests.Response, refusals: int) -> None:
        super().__init__(message, response)
        self.refusals = refusals


class Connection:
    """The requests of one read, which slow down together after a rate limit.

    Attributes:
        sent: The number of requests.
        started: The start of the read, by the clock of this machine or by that of the API, whichever is earlier.
    """

    def __init__(self, stream: RESTStream[int]) -> None:
        self.sent = 0
        self.started = datetime.now(timezone.utc)
        self._stream = stream
        self._session = stream.requests_session  # created here, before several workers create it at once
        self._throttle = Throttle(int(stream.config["concurrency"]))

    def fetch(self, wanted: Wanted) -> PageResponse:
        """Request a page.

        Raises:
            ConfigurationError: If every stream would get this error.
            ListingError: If the listing cannot be read.
        """
        stream, context = self._stream, {"status": wanted.listing, "per_page": wanted.size}
        http = stream.get_http_request(page=PageContext(context, wanted.number))
        request = stream.build_prepared_request(http.method, http.url, http.headers, params=http.encode_params())
        try:
            response = stream.request_decorator(partial(self._send, wanted))(request, context)
        except FatalAPIError as error:
            raise ListingError(str(error)) from None
        except RetriableAPIError as error:
            kind = ConfigurationError if transport.is_unreachable(error) else ListingError
            tries = stream.backoff_max_tries()
            raise kind(f"{error} Gave up after {tries} {'try' if tries == 1 else 'tries'}.") from None
        return cast("PageResponse", response)

    def _send(self, wanted: Wanted, request: requests.PreparedRequest, _: Context | None) -> requests.Response:
        stream = self._stream
        tags = {metrics.Tag.STREAM: stream.name, metrics.Tag.ENDPOINT: stream.path}
        with self._throttle.slot(), metrics.Timer(metrics.Metric.HTTP_REQUEST_DURATION, tags) as timer:
            self.sent += 1
            try:
                response = self._session.send(request, timeout=stream.timeout, allow_redirects=stream.allow_redirects)
            except transport.ERRORS as error:
                raise transport.connection_error(request.url, error) from None
            timer.tags[metrics.Tag.HTTP_STATUS_CODE] = response.status_code
            self._session.cookies.update(response.cookies)  # a load balancer may keep a client on one server
            with suppress(ValueError):
                self.started = min(self.started, parse_time(response.headers.get("Date")))
            self._validate(response, wanted)
        self._throttle.speed_up()
        return response

    def _validate(self, response: requests.Response, wanted: Wanted) -> None:
        """Validate a response. Any one but a rate limit may follow the last announced page: it is the end."""
        validated = cast("PageResponse", response)
        try:
            self._stream.validate_response(response)
        except (FatalAPIError, RetriableAPIError) as error:
            is_rate_limit = response.status_code == HTTPStatus.TOO_MANY_REQUESTS or "Retry-After" in response.headers
            if is_rate_limit and isinstance(error, RetriableAPIError):
                self._throttle.slow_down(max(1.0, transport.retry_after(response)))
                raise RateLimitError(str(error), response, self._throttle.refusals) from None
            if wanted.is_announced:
                raise
            validated.page = no_such_page(wanted.number, str(error))
        if not wanted.is_announced:
            validated.page = msgspec.structs.replace(validated.page, doubt="")
