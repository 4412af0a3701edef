"""A stream of the Trackly API: its requests, its verified read and its state."""

from __future__ import annotations

import itertools
import logging
import random
import threading
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import cached_property, partial
from http import HTTPStatus
from http.client import HTTPException
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit
from weakref import WeakKeyDictionary

import backoff
import requests
from backoff.types import Details
from requests.exceptions import ProxyError
from singer_sdk import metrics
from singer_sdk.authenticators import APIKeyAuthenticator
from singer_sdk.exceptions import FatalAPIError, RetriableAPIError
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.helpers.types import Context, Record, RequestFunc
from singer_sdk.pagination import PageNumberPaginator
from singer_sdk.singerlib.catalog import REPLICATION_INCREMENTAL, Catalog
from singer_sdk.streams import RESTStream
from singer_sdk.streams.rest import PageContext
from typing_extensions import override
from urllib3.exceptions import HTTPError

from tap_trackly import errors, incremental
from tap_trackly.pagination import Page, PageError, TracklyPaginator, parse_page
from tap_trackly.prefetch import AHEAD_PER_WORKER, Prefetch, Throttle
from tap_trackly.records import RecordConverter, key_getter
from tap_trackly.settings import SettingsError
from tap_trackly.summary import StreamSummary
from tap_trackly.transport import LimitedAdapter
from tap_trackly.verified_read import Listing, RecordError, VerifiedRead

LONGEST_WAIT = 300.0  # seconds
_TRANSIENT = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, *range(500, 600)}
_WARNINGS_PER_FIELD = 10


class RateLimitError(RetriableAPIError):
    """The API asks for fewer requests."""


class TracklyStream(RESTStream[int]):
    """A stream whose bookmark advances only after a verified read.

    In a response, the records are in the field with the name of the stream.

    Attributes:
        listings: The listings that together contain all records of the endpoint.
        max_page_size: The maximum `per_page` of the endpoint.
        paginated: Whether the endpoint takes `page` and `per_page`. If one that does not returns
            `pagination` in the future, its pages are requested by number.
        personal_fields: Key fields that are masked in the log.
        latest_record: The last converted record.
    """

    listings: ClassVar[Sequence[Listing]] = (Listing(),)
    max_page_size: ClassVar[int] = 100
    paginated: ClassVar[bool] = True
    personal_fields: ClassVar[Sequence[str]] = ()
    # requests would send X-Api-Key to any host that a redirect names.
    allow_redirects = False
    # post_process has already converted all values.
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.summary = StreamSummary(self.name)
        self.latest_record: Record | None = None
        # Read before a catalog is applied, which may have other key properties for the target, or none.
        self._key_names = tuple(self.primary_keys)
        self._get_key = key_getter(self._key_names, self.schema["properties"])
        self._pages: WeakKeyDictionary[requests.Response, Page] = WeakKeyDictionary()
        self._conforms = False
        self._replaced: Counter[str] = Counter()
        self._unknown: set[str] = set()
        self._logged_failures: set[tuple[str, int]] = set()
        self._counting = threading.Lock()

    @override
    def apply_catalog(self, catalog: Catalog) -> None:
        """Apply a catalog.

        Raises:
            SettingsError: If it names another replication key; another field may not contain times.
        """
        key, entry = self.replication_key, catalog.get_stream(self.name)
        # Meltano writes a configured key into the metadata, where the SDK ignores it if the entry names one, too.
        root = entry.metadata.get(()) if entry else None
        named = [entry and entry.replication_key, getattr(root, "replication_key", None)]
        if any(each and each != key for each in named):
            expected = f"the replication key of stream '{self.name}' is {key or 'none'}"
            raise SettingsError(f"Invalid catalog file: {expected}.")
        super().apply_catalog(catalog)

    @property
    @override
    def url_base(self) -> str:
        return str(self.config["api_url"]).rstrip("/")

    @cached_property
    @override
    def authenticator(self) -> APIKeyAuthenticator:
        return APIKeyAuthenticator(key="X-Api-Key", value=self.config["api_key"])

    @property
    @override
    def http_headers(self) -> dict[str, str]:
        return {"Accept": "application/json"}

    @property
    @override
    def timeout(self) -> float:  # type: ignore[override]
        """The timeout for a whole response, in seconds."""
        return float(self.config["request_timeout"])

    @cached_property
    @override
    def requests_session(self) -> requests.Session:
        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, LimitedAdapter(pool_maxsize=int(self.config["concurrency"])))
        # Look up proxies and certificates of the environment once instead of for each request.
        found = session.merge_environment_settings(self.url_base, {}, None, None, None)
        session.proxies, session.verify, session.trust_env = found["proxies"], found["verify"], False
        return session

    @override
    def get_new_paginator(self) -> PageNumberPaginator:
        return TracklyPaginator(self.get_page)

    @override
    def get_url_params(self, context: Context | None, next_page_token: int | None) -> dict[str, Any]:
        """Return the query of a request: the `status` filter of the listing, and the page."""
        params: dict[str, Any] = {**(context or {})}
        if self.paginated or next_page_token != 1:
            params["page"] = next_page_token
        if self.paginated:
            params["per_page"] = int(self.config.get("page_size", self.max_page_size))
        return params

    @override
    def validate_response(self, response: requests.Response) -> None:
        """Check that a response is the requested page.

        Raises:
            RetriableAPIError: If the error is transient.
            FatalAPIError: If the user must fix the error.
        """
        status = response.status_code
        if status < HTTPStatus.MULTIPLE_CHOICES:
            try:
                self.get_page(response)
            except PageError as error:
                raise RetriableAPIError(f"{response.url}: {error}{self._words(response)}.", response) from None
            return
        message = self.response_error_message(response)
        if status not in _TRANSIENT:
            raise FatalAPIError(f"{message} {errors.status_advice(status, message, self.name)}")
        if status == HTTPStatus.TOO_MANY_REQUESTS or "Retry-After" in response.headers:
            raise RateLimitError(message, response)
        raise RetriableAPIError(message, response)

    @override
    def response_error_message(self, response: requests.Response) -> str:
        return f"{response.url}: HTTP {response.status_code}{self._words(response)}."

    @override
    def parse_response(self, response: requests.Response) -> Iterable[Record]:
        yield from self.get_page(response).records

    def get_page(self, response: requests.Response) -> Page:
        """Return the page in a response.

        Raises:
            PageError: If it is not the requested page.
        """
        page = self._pages.get(response)
        if page is None:
            query = parse_qs(urlsplit(str(response.url)).query)
            number = int(query.get("page", ["1"])[0])
            page = parse_page(response.content, self.name, number, paginated=self.paginated)
            self._pages[response] = page
        return page

    @override
    def request_decorator(self, func: RequestFunc) -> RequestFunc:
        """Return a function that retries transient errors.

        Rate limits count against `backoff_max_tries` only while no other request of the stream succeeds,
        because a slow but steady run should not fail.
        """
        retry = partial(
            backoff.on_exception,
            self.backoff_wait_generator,
            jitter=self.backoff_jitter,
            on_backoff=self.backoff_handler,
            on_giveup=self._give_up,
            logger=None,  # backoff_handler logs
        )
        tries = self.backoff_max_tries()
        within_rate_limit = retry(exception=RateLimitError, giveup=lambda _: self._throttle.failures >= tries)
        return retry(exception=RetriableAPIError, max_tries=tries)(within_rate_limit(func))

    @override
    def backoff_max_tries(self) -> int:
        return int(self.config["max_retries"]) + 1

    @override
    def backoff_wait_generator(self) -> Generator[float, Any, None]:
        """Yield the seconds of `Retry-After`, or else 1, 2, 4 and so on.

        For rate limits, the waits restart at 1 after a successful request.
        """
        error = yield 0.0
        for failures in itertools.count(start=1):
            asked = _retry_after(error.response) if isinstance(error, RetriableAPIError) else None
            exponent = max(1, self._throttle.failures) if isinstance(error, RateLimitError) else failures
            # With `Retry-After: 0`, all tries would be used up at once.
            error = yield asked if asked is not None and asked >= 1 else 2.0 ** (exponent - 1)

    @override
    def backoff_jitter(self, value: float) -> float:
        """Return a wait up to 50% longer, so that workers do not retry at the same time."""
        return min(value * random.uniform(1.0, 1.5), LONGEST_WAIT)  # noqa: S311

    @override
    def backoff_handler(self, details: Details) -> None:
        """Log a retry; after a rate limit, pause all requests."""
        error, tries, wait = details["exception"], details["tries"], details["wait"]
        if isinstance(error, RateLimitError):
            self._throttle.pause(wait)
        failure = (str(error), tries)
        if failure not in self._logged_failures:  # several workers may get the same error at the same time
            self._logged_failures.add(failure)
            self.logger.warning("%s Retrying in %.1f s (%d of %d).", error, wait, tries, self.backoff_max_tries() - 1)

    def _give_up(self, details: Details) -> None:
        tries = max(details["tries"], self._throttle.failures)
        raise FatalAPIError(f"{details['exception']} Gave up after {tries} {'try' if tries == 1 else 'tries'}.")

    @override
    def post_process(self, row: Record, context: Context | None = None) -> Record | None:
        """Return a record that is valid against the schema and that every target can store."""
        try:
            if self._conforms:
                self.latest_record = self._converter.complete(row)
                return self.latest_record
        except ValueError:  # a time or number is not valid
            pass
        record, replaced, unknown = self._converter.convert(row)
        self.latest_record = record
        for name, reason in replaced.items():
            self._replaced[name] += 1
            if self._replaced[name] <= _WARNINGS_PER_FIELD:
                self.logger.warning("Record %s: field '%s' %s.", self._shown_key(row), name, reason)
        if not self._unknown.issuperset(unknown):
            self._unknown.update(unknown)
            self.logger.warning("Ignored fields that are not in the schema: %s.", self._shown(", ".join(unknown)))
        return record

    @override
    def generate_child_contexts(self, record: Record, context: Context | None) -> Iterable[Context | None]:
        """Return no contexts: no stream has child streams, and the SDK would copy each record for them."""
        return ()

    @override
    def get_replication_key_signpost(self, context: Context | None = None) -> datetime | None:
        """Return the upper limit of the bookmark: five minutes before the start of the run."""
        signpost = super().get_replication_key_signpost(context)
        return signpost and signpost - incremental.CLOCK_TOLERANCE

    @override
    def log(self, message: str, *args: Any, level: int = logging.INFO, **kwargs: Any) -> None:
        """Log a message of the SDK; its errors at debug level, because the tap logs one line for each failure."""
        super().log(message, *args, level=logging.DEBUG if level >= logging.ERROR else level, **kwargs)

    @property
    def wanted_statuses(self) -> Sequence[str] | None:
        """The statuses of the records to read; None for all."""
        return None

    @property
    def wanted_listings(self) -> Sequence[Listing]:
        """The listings that together contain all records to read."""
        statuses = self.wanted_statuses
        return self.listings if statuses is None else [Listing(status) for status in statuses]

    @override
    def request_records(self, context: Context | None) -> Iterator[Record]:
        """Read the listings and yield the records to emit.

        Raises:
            FatalAPIError: If a page cannot be read, or a record has no valid key.
        """
        summary = self.summary
        summary.started = datetime.now(timezone.utc)
        due = self._thresholds(context, summary.started)
        summary.left_out_as = "before start_date" if due.is_full and due.seen_first else "unchanged"
        with self._requesting():
            summary.announced = self._announced()
            read = VerifiedRead(self.wanted_listings, self, self._get_key, 2 * AHEAD_PER_WORKER * self._concurrency)
            try:
                for page, new, changed in read:
                    summary.log_progress(read, self.logger)
                    records = [*self._due(new, due.seen_first), *self._due(changed, due.seen_changed)]
                    self._conforms = bool(records) and self._converter.conforms(page)
                    summary.emitted += len(records)
                    summary.left_out += len(new) + len(changed) - len(records)
                    yield from records
            except RecordError as error:
                raise FatalAPIError(f"Stream '{self.name}', {self.get_url(context)}: {error}.") from None
            finally:
                self._conforms = False
        self._end_read(read, due)

    def pages(self, listing: Listing, start: int) -> Generator[Page, None, None]:
        """Yield the pages of a listing, starting at a page number."""
        paginator = self.get_new_paginator()
        number, last_number = max(start, paginator.current_value), start
        while not paginator.finished:
            upcoming = ((listing, each) for each in range(number + 1, last_number + 1))
            response = self._prefetch.get((listing, number), upcoming)
            page = self._parsed(response)
            yield page
            paginator.advance(response)
            number, last_number = paginator.current_value, page.last_number

    def request(self, wanted: Sequence[tuple[Listing, int]]) -> Sequence[Page]:
        """Request pages anew and return them."""
        self._prefetch.discard()
        return [self._parsed(self._prefetch.get(each, wanted[place:])) for place, each in enumerate(wanted, start=1)]

    def discard_prefetched(self) -> None:
        """Discard prefetched pages."""
        self._prefetch.discard()

    def count_records(self) -> int:
        """Return the sum of the `total` of each listing."""
        with self._requesting():
            return self._announced()

    def _announced(self) -> int:
        first_pages = self._prefetch.peek([(listing, 1) for listing in self.wanted_listings])
        return sum(self.get_page(response).total for response in first_pages)

    @contextmanager
    def _requesting(self) -> Iterator[None]:
        self._throttle = Throttle(self._concurrency)
        self._request_page = self.request_decorator(self._send)
        _ = self.requests_session  # created here, before several workers create it at once
        with (
            self.get_http_request_counter() as self._request_counter,
            closing(Prefetch(self._fetch, self._concurrency)) as self._prefetch,
        ):
            yield

    def _parsed(self, response: requests.Response) -> Page:
        return replace(self.get_page(response), records=list(self.parse_response(response)))

    def _fetch(self, wanted: tuple[Listing, int]) -> requests.Response:
        listing, number = wanted
        context = {"status": listing.status} if listing.status else None
        request = self.get_http_request(page=PageContext(stream_context=context, next_page_token=number))
        query = request.encode_params()
        prepared = self.build_prepared_request(
            method=request.method, url=request.url, params=query, headers=request.headers, json=request.data
        )
        return self._request_page(prepared, context)

    def _send(self, request: requests.PreparedRequest, context: Context | None) -> requests.Response:
        tags = {metrics.Tag.STREAM: self.name, metrics.Tag.ENDPOINT: self.path}
        with self._throttle.slot(RateLimitError), metrics.Timer(metrics.Metric.HTTP_REQUEST_DURATION, tags) as timer:
            with self._counting:
                self._request_counter.increment()
            try:
                response = self.requests_session.send(
                    request, timeout=self.timeout, allow_redirects=self.allow_redirects
                )
            except (OSError, TypeError, ValueError, HTTPError, HTTPException) as error:
                raise self._connection_error(error, str(request.url)) from None
            timer.tags[metrics.Tag.HTTP_STATUS_CODE] = response.status_code
            self.validate_response(response)
        self._logged_failures.clear()
        self.update_sync_costs(request, response, context)
        return response

    def _connection_error(self, error: Exception, url: str) -> RetriableAPIError | FatalAPIError:
        cause = errors.root_cause(error)
        if advice := errors.connection_advice(error):
            return FatalAPIError(f"{url}: {errors.connection_words(cause)}. {advice}")
        if errors.is_unreachable(error):
            where = "the environment variable HTTPS_PROXY" if isinstance(error, ProxyError) else "the setting api_url"
            return RetriableAPIError(f"{self.url_base}: {errors.connection_words(cause)}. Check {where}.")
        return RetriableAPIError(f"{url}: {errors.connection_words(cause)}.")

    def _thresholds(self, context: Context | None, now: datetime) -> incremental.Thresholds:
        if self.replication_method != REPLICATION_INCREMENTAL:
            return incremental.Thresholds()
        hours = float(self.config["full_resend_hours"])
        reason = incremental.resend_reason(self.stream_state, now, hours, self._fingerprint)
        bookmark = self.get_starting_timestamp(context)
        due = incremental.thresholds(self.stream_state, bookmark, self.config.get("start_date"), reason, now)
        if due.is_bookmark_in_future:
            self.logger.warning("The bookmark is after the start of this run and is ignored: emitting all records.")
        elif reason:
            self.logger.info("Full resend: %s.", reason)
        return due

    def _due(self, records: Sequence[Record], threshold: str | None) -> Iterator[Record]:
        key, wanted = str(self.replication_key), self.wanted_statuses
        if wanted is None and threshold is None:
            yield from records
            return
        for record in records:
            if wanted is not None and record.get("status") not in wanted:
                self.summary.unwanted += 1
            elif incremental.should_emit(record.get(key), threshold):
                yield record

    def _end_read(self, read: VerifiedRead, due: incremental.Thresholds) -> None:
        state = self.stream_state
        if not read.is_verified:
            state.pop("progress_markers", None)  # from which the SDK would set the bookmark
        elif self.replication_method == REPLICATION_INCREMENTAL and (
            due.is_full or incremental.LAST_FULL_SEND not in state
        ):
            state[incremental.LAST_FULL_SEND] = self.summary.started.isoformat()
            state[incremental.LAST_FULL_SEND_OF] = self._fingerprint
        self.summary.log_end(read, self.logger)
        if read.is_verified and read.duplicates:
            example = self._shown(str(read.duplicates[0]))
            self.logger.warning("The API returns %d duplicate records, such as %s.", len(read.duplicates), example)
        for name, count in self._replaced.items():
            if count > _WARNINGS_PER_FIELD:
                self.logger.warning("Field '%s' was invalid in %d records.", name, count)

    @cached_property
    def _concurrency(self) -> int:
        return int(self.config["concurrency"])

    @cached_property
    def _converter(self) -> RecordConverter:
        return RecordConverter(self.effective_schema["properties"])

    @cached_property
    def _fingerprint(self) -> str:
        config = self.config
        selected = [name for name in self.effective_schema["properties"] if self.mask["properties", name]]
        maps = {name: config[name] for name in config if name.startswith(("flattening_", "stream_map"))}
        return incremental.fingerprint_of(
            account=[self.url_base, config["api_key"]],
            settings=[list(map(str, self.wanted_listings)), config.get("start_date")],
            selection=sorted(selected),
            stream_maps=maps,
        )

    def _shown_key(self, record: Record) -> str:
        hidden = self.personal_fields
        return " ".join(
            f"{name}={'***' if name in hidden else self._shown(str(record.get(name)))}" for name in self._key_names
        )

    def _shown(self, text: str) -> str:
        """Return text from the API in a form that may be logged."""
        text = errors.mask(text, self.config["api_key"])
        return errors.one_line(errors.without_phone_numbers(text) if self.personal_fields else text)

    def _words(self, response: requests.Response) -> str:
        words = self._shown(errors.api_words(response.content))
        return f", {words}" if words else ""


def _retry_after(response: requests.Response | None) -> float | None:
    """Return the seconds to wait by `Retry-After`; None without a valid header."""
    header = response.headers.get("Retry-After", "").strip() if response is not None else ""
    if header.isdecimal():
        return float(header)
    try:
        return (parsedate_to_datetime(header) - datetime.now(timezone.utc)).total_seconds()
    except (OverflowError, TypeError, ValueError):
        return None
