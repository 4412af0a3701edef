"""The base class of the streams: their requests, one read, and its effect on the state."""

import itertools
import logging
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime, timezone
from functools import cached_property, partial
from http import HTTPStatus
from typing import Any, ClassVar, cast

import backoff
import requests
from singer_sdk import metrics
from singer_sdk.authenticators import APIKeyAuthenticator
from singer_sdk.exceptions import ConfigurationError, FatalAPIError, RetriableAPIError
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.helpers.types import Context, Record, RequestFunc
from singer_sdk.singerlib.catalog import REPLICATION_INCREMENTAL
from singer_sdk.streams.rest import PageContext, RESTStream
from typing_extensions import override

from tap_trackly import incremental, pagination, transport
from tap_trackly.log import ReadLog, api_words, one_line
from tap_trackly.prefetch import PageSource, Throttle, Wanted
from tap_trackly.records import RecordConverter, parse_time, utc_text
from tap_trackly.verified_read import Changes, OrderedRead, VerifiedRead


class RateLimitError(RetriableAPIError):
    """The API asks for fewer requests.

    Attributes:
        refusals: How many requests it has refused since the last success; concurrent ones count once.
    """

    refusals = 1


class TracklyStream(RESTStream[int]):
    """A stream whose bookmark advances only after a verified read.

    In a response, the records are in the field with the name of the stream.

    Attributes:
        listings: The `status` filters whose listings together contain all records; None for no filter.
        optional_replication_key: The replication key if the catalog asks for incremental replication.
        is_newest_first: Whether records keep their order, and new ones come first.
        max_page_size: The maximum `per_page` of the endpoint.
        paginated: Whether the endpoint takes `page` and `per_page`. If another one returns `pagination` in the
            future, its pages are requested by number.
        personal_fields: Fields with personal data. Their values are not logged, and if there are any, the text of
            error responses is not logged either.
        result: How this run ended for the stream: "failed", "incomplete", or "" if all records were read.
    """

    replication_key: str | None = None
    optional_replication_key: ClassVar[str | None] = None
    listings: ClassVar[Sequence[str | None]] = (None,)
    is_newest_first: ClassVar[bool] = False
    max_page_size: ClassVar[int] = 100
    paginated: ClassVar[bool] = True
    personal_fields: ClassVar[Sequence[str]] = ()
    # requests would send X-Api-Key to any host that a redirect names.
    allow_redirects = False
    extra_retry_statuses = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
    # All values are converted before the SDK sees them.
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE

    result = ""

    @property
    @override
    def url_base(self) -> str:
        return str(self.config["api_url"]).rstrip("/")

    @cached_property
    @override
    def authenticator(self) -> APIKeyAuthenticator:
        return APIKeyAuthenticator(key="X-Api-Key", value=self.config["api_key"].strip())

    @property
    @override
    def timeout(self) -> int:
        """The timeout in seconds: for connecting, for the wait for a response, and for its whole body."""
        return int(self.config["request_timeout"])

    @property
    def page_size(self) -> int:
        """The number of records to request with a page."""
        return int(self.config.get("page_size", self.max_page_size))

    @cached_property
    @override
    def requests_session(self) -> requests.Session:
        session = requests.Session()
        session.headers["Accept"] = "application/json"
        for scheme in ("http://", "https://"):
            session.mount(scheme, transport.LimitedAdapter(pool_maxsize=self.config["concurrency"]))
        # Look up proxies and certificates of the environment once instead of for each request.
        found = session.merge_environment_settings(self.url_base, {}, None, None, None)
        session.proxies, session.verify, session.trust_env = found["proxies"], found["verify"], False
        return session

    @override
    def get_new_paginator(self) -> pagination.TracklyPaginator:
        return pagination.TracklyPaginator(start_value=1)

    @override
    def get_url_params(self, context: Context | None, next_page_token: int | None) -> dict[str, Any]:
        """Return the query of a request: the page, and the `status` filter and page size in the context."""
        params: dict[str, Any] = {"page": next_page_token, "per_page": self.page_size, **(context or {})}
        if not self.paginated:  # a parameter that is None is not sent
            params |= {"page": None if next_page_token == 1 else next_page_token, "per_page": None}
        return params

    @override
    def validate_response(self, response: requests.Response) -> None:
        """Check the status of a response.

        Raises:
            ConfigurationError: If the API key is not valid.
            RetriableAPIError: If the error is transient.
            FatalAPIError: If the user must fix the error.
        """
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            raise ConfigurationError(self.response_error_message(response))
        super().validate_response(response)
        if response.status_code >= HTTPStatus.MULTIPLE_CHOICES:
            raise FatalAPIError(self.response_error_message(response))

    def parse_page(self, response: requests.Response, wanted: Wanted) -> pagination.Page:
        """Return the page in a response without an error.

        Raises:
            RetriableAPIError: If it is not a page.
        """
        body = response.content if response.status_code != HTTPStatus.NO_CONTENT else f'{{"{self.name}": []}}'.encode()
        try:
            return pagination.parse_page(body, self.name, wanted.number, wanted.size, paginated=self.paginated)
        except pagination.PageError as error:
            raise RetriableAPIError(f"{self.response_error_message(response)} No page: {error}.", response) from None

    @override
    def response_error_message(self, response: requests.Response) -> str:
        """Return the status, what the API says, and what the user can do."""
        status, words = response.status_code, api_words(response.content, only_code=bool(self.personal_fields))
        advice = transport.ADVICE.get(status, "")
        if location := response.headers.get("Location"):
            target = one_line(location.partition("?")[0])
            advice = f"It redirects to {target}. Check the setting api_url; redirects are not followed."
        return f"{response.url}: HTTP {status}{words}. {advice}".rstrip()

    @override
    def request_decorator(self, func: RequestFunc) -> RequestFunc:
        """Return a function that retries transient errors.

        Rate limits count only while no other request succeeds, because a slow but steady run should not fail.
        """
        failures = itertools.count(start=1)

        def is_last(error: Exception) -> bool:
            tries = error.refusals if isinstance(error, RateLimitError) else next(failures)
            return tries >= self.backoff_max_tries()

        return backoff.on_exception(
            self.backoff_wait_generator,
            RetriableAPIError,
            giveup=is_last,
            jitter=self.backoff_jitter,
            on_backoff=self.backoff_handler,
            logger=None,  # backoff_handler logs
        )(func)

    @override
    def backoff_max_tries(self) -> int:
        return int(self.config["max_retries"]) + 1

    @override
    def backoff_wait_generator(self) -> Generator[float, Any, None]:
        """Yield 1, 2, 4 seconds and so on, or the seconds of `Retry-After` if they are more."""
        error = yield 0.0
        for failures in itertools.count():
            exponent = error.refusals - 1 if isinstance(error, RateLimitError) else failures
            error = yield min(max(2.0**exponent, transport.retry_after(error.response)), transport.LONGEST_WAIT)

    @override
    def backoff_handler(self, details: Mapping[str, Any]) -> None:
        self.logger.warning("%(exception)s Retrying in %(wait).1f s after try %(tries)d.", details)

    @override
    def compare_start_date(self, value: str, start_date_value: str) -> str:
        return max(utc_text(value), utc_text(start_date_value))

    @override
    def log(self, message: str, *args: Any, level: int = logging.INFO, **kwargs: Any) -> None:
        """Log a message of the SDK; its errors at debug level, because the tap logs one line for each failure."""
        super().log(message, *args, level=logging.DEBUG if level >= logging.ERROR else level, **kwargs)

    @override
    def request_records(self, context: Context | None) -> Iterator[Record]:
        """Read the listings, convert the records, emit those that are due, and decide whether the read was complete."""
        connection, log = Connection(self), ReadLog(self.name, self.logger, self.personal_fields)
        converter = RecordConverter(self.effective_schema["properties"])
        threshold, is_full = self._threshold(context, connection.started)
        # A read of new records often ends after a few pages, so none are fetched ahead at first.
        ahead = 1.0 if self.is_newest_first and not is_full else float("inf")
        workers = int(self.config["concurrency"])
        with closing(PageSource(connection.fetch, self.get_new_paginator, workers, ahead)) as source:
            read = self._new_read(source, None if is_full else threshold)
            for changes in read:
                log.progress(read.records, read.announced)
                records = self._converted(changes, converter, log)
                due = incremental.due(records, str(self.replication_key), threshold)
                log.emitted += len(due)
                yield from due
        self._end_read(read, log, connection.started, is_full=is_full)

    def count_records(self) -> int:
        """Return the sum of the `total` of each listing."""
        fetch = Connection(self).fetch
        return sum(fetch(Wanted(listing, 1, self.page_size)).total or 0 for listing in self.listings)

    def begin_send(self) -> None:
        """Note in the state that this run sends records, if its settings differ from those of the last full resend."""
        if self.selected and self.replication_method == REPLICATION_INCREMENTAL:
            incremental.begin_send(self.stream_state, self._fingerprint)

    def _new_read(self, source: PageSource, threshold: str | None) -> VerifiedRead:
        how = (self.listings, source, self._key_of, self.page_size)
        if self.is_newest_first:
            return OrderedRead(*how, is_old=partial(incremental.is_old, str(self.replication_key), threshold))
        return VerifiedRead(*how)

    def _key_of(self, record: Record) -> int:
        return hash(tuple(map(str, map(record.get, self.primary_keys))))

    def _converted(self, changes: Changes, converter: RecordConverter, log: ReadLog) -> list[Record]:
        """Return the records of a page, converted, without those that have no valid key."""
        keys, records, page = self.primary_keys, [], changes.page
        converted = converter.convert_all(changes.records, is_clean=page.is_clean)
        for raw, (record, changed) in zip(changes.records, converted, strict=True):
            if missing := [name for name in keys if record[name] in {None, ""}]:
                failure = "another one"  # only the first failure is logged, and the number of the others
                if not log.failures:
                    position = [*page.records, *page.earlier].index(raw) + 1
                    place = f"{changes.listing or 'default'} listing, page {page.number}, record {position}"
                    failure = f"a record is left out: {place}: key field '{missing[0]}' is missing or invalid."
                log.failures.append(failure)
                continue
            if changed:
                log.changed_values({name: raw.get(name) for name in keys}, changed)
            for name in self._deselected:
                del record[name]
            records.append(record)
        return records

    def _threshold(self, context: Context | None, now: datetime) -> tuple[str | None, bool]:
        """Return the minimum replication key value of the records to emit, and whether this is a full resend."""
        if self.replication_method != REPLICATION_INCREMENTAL:
            return None, True
        reason = incremental.resend_reason(self.stream_state, now, self.config["full_resend_hours"], self._fingerprint)
        if reason:
            self.logger.info("%s: Full resend: %s.", self.name, reason)
        start = self.config.get("start_date") if reason else self.get_starting_replication_key_value(context)
        return start and utc_text(start), bool(reason)

    def _end_read(self, read: VerifiedRead, log: ReadLog, started: datetime, *, is_full: bool) -> None:
        """Log the result of a read; unless it was complete, leave the bookmark where it was."""
        state = self.stream_state
        errors = [*map(str, read.errors), *log.failures]
        self.result = "failed" if errors else "incomplete" if read.reason else ""
        if self.result:
            state.pop("progress_markers", None)  # from which the SDK would set the bookmark
        elif self.replication_method == REPLICATION_INCREMENTAL:
            self.state_manager.write_replication_key_signpost(started - incremental.CLOCK_TOLERANCE)
            if is_full or incremental.LAST_FULL_SEND not in state:
                state[incremental.LAST_FULL_SEND] = started.isoformat()
                state[incremental.LAST_FULL_SEND_OF] = self._fingerprint
        log.end(read.reason, errors, records=read.records, announced=read.announced, pages=read.pages)

    @cached_property
    def _deselected(self) -> Collection[str]:
        return {name for name in self.effective_schema["properties"] if not self.mask["properties", name]}

    @cached_property
    def _fingerprint(self) -> str:
        config = self.config
        return incremental.fingerprint_of(
            account=[self.url_base, config["api_key"]],
            settings=[self.listings, config.get("start_date")],
            selection=sorted(self.effective_schema["properties"].keys() - self._deselected),
            stream_maps={name: config[name] for name in config if name.startswith(("flattening_", "stream_map"))},
        )


class Connection:
    """The requests of one read, which slow down together after a rate limit.

    Attributes:
        started: The start of the read, by the clock of this machine or by that of the API, whichever is earlier.
    """

    def __init__(self, stream: TracklyStream) -> None:
        self.started = datetime.now(timezone.utc)
        self._stream = stream
        self._session = stream.requests_session  # created here, before several workers create it at once
        self._throttle = Throttle(int(stream.config["concurrency"]))

    def fetch(self, wanted: Wanted) -> pagination.Page:
        """Request a page. An error after the last announced page is the end of the listing, an empty page.

        Raises:
            ConfigurationError: If every stream would get this error.
            ListingError: If the listing cannot be read.
        """
        stream, context = self._stream, {"status": wanted.listing, "per_page": wanted.size}
        http = stream.get_http_request(page=PageContext(context, wanted.number))
        request = stream.build_prepared_request(http.method, http.url, http.headers, params=http.encode_params())
        try:
            response = stream.request_decorator(partial(self._send, wanted))(request, context)
        except (FatalAPIError, RetriableAPIError) as error:
            tries = stream.backoff_max_tries()
            end = f" Gave up after {tries} {'try' if tries == 1 else 'tries'}."
            words = f"{error}{end if isinstance(error, RetriableAPIError) else ''}"
            if transport.is_unreachable(error):
                raise ConfigurationError(words) from None
            if wanted.is_announced:
                raise pagination.ListingError(words) from None
            return pagination.Page(wanted.number, [], 1)  # whether records are missing is decided by their number
        return cast("pagination.PageResponse", response).page

    def _send(self, wanted: Wanted, request: requests.PreparedRequest, _: Context | None) -> requests.Response:
        stream = self._stream
        tags = {metrics.Tag.STREAM: stream.name, metrics.Tag.ENDPOINT: stream.path}
        with self._throttle.slot(), metrics.Timer(metrics.Metric.HTTP_REQUEST_DURATION, tags) as timer:
            try:
                response = self._session.send(request, timeout=stream.timeout, allow_redirects=stream.allow_redirects)
            except transport.ERRORS as error:
                words, is_permanent = transport.explain(error)
                kind = ConfigurationError if is_permanent else RetriableAPIError
                raise kind(f"{request.url}: {words}") from None
            timer.tags[metrics.Tag.HTTP_STATUS_CODE] = response.status_code
            self._session.cookies.update(response.cookies)  # a load balancer may keep a client on one server
            with suppress(ValueError):
                self.started = min(self.started, parse_time(response.headers.get("Date")))
            page = self._page(response, wanted)
        self._throttle.speed_up()
        return pagination.PageResponse(page)

    def _page(self, response: requests.Response, wanted: Wanted) -> pagination.Page:
        """Return the page in a response; for an error that may be the end of the listing, an empty page."""
        status = response.status_code
        try:
            self._stream.validate_response(response)
            return self._stream.parse_page(response, wanted)
        except (FatalAPIError, RetriableAPIError) as error:
            has_limit = status == HTTPStatus.TOO_MANY_REQUESTS or "Retry-After" in response.headers
            if has_limit and isinstance(error, RetriableAPIError):
                limit = RateLimitError(str(error), response)
                limit.refusals = self._throttle.slow_down(max(1.0, transport.retry_after(response)))
                raise limit from None
            is_past_end = wanted.number > 1 and status in {400, 404, 422}
            if wanted.is_announced and not is_past_end:
                raise
            # Other errors after the last announced page are transient, perhaps: the count may be capped.
            return pagination.Page(wanted.number, [], 1, doubt="" if is_past_end else f"HTTP {status}")
