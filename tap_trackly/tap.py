"""The settings of the tap and the list of its streams."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from singer_sdk import Stream
from singer_sdk import typing as th

from tap_trackly.lifecycle import LifecycleTap
from tap_trackly.streams import (
    AudiencesStream,
    ContactsStream,
    CreativesStream,
    ListsStream,
    OffersStream,
    SchedulesStream,
)

STREAMS = (OffersStream, ListsStream, AudiencesStream, CreativesStream, SchedulesStream, ContactsStream)


class TapTrackly(LifecycleTap):
    """Reads a Trackly SMS account: every offer with its true state, and what is sent to whom."""

    name = "tap-trackly"
    config_jsonschema = th.PropertiesList(
        th.Property(
            "api_key",
            th.StringType(nullable=False),
            required=True,
            secret=True,
            title="API key",
            description="The key of the account (Settings > API Keys), one line of plain letters and digits.",
        ),
        th.Property(
            "api_url",
            th.StringType(nullable=False),
            default="https://app.tracklysms.com/api/v2",
            title="API URL",
            description="The address of the API, http or https with a host; a trailing slash is fine.",
        ),
        th.Property(
            "start_date",
            th.DateTimeType(nullable=False),
            title="Start date",
            description=(
                "Incremental streams leave out what was last changed before this ISO 8601 date or time, "
                "such as 2025-01-01 or 2025-01-01T00:00:00Z."
            ),
        ),
        th.Property(
            "offer_statuses",
            th.ArrayType(th.StringType(allowed_values=["active", "paused", "archived"]), nullable=False),
            default=["active", "paused", "archived"],
            title="Offer statuses",
            description=(
                "Read offers with these statuses: one or more of active, paused, archived. "
                "All three also read offers with a status that the API does not document."
            ),
        ),
        th.Property(
            "page_size",
            th.IntegerType(minimum=1, maximum=100, nullable=False),
            title="Page size",
            description="Records asked for in one request, from 1 to 100; if not set, as many as the endpoint allows.",
        ),
        th.Property(
            "full_resend_hours",
            th.DecimalType(minimum=0, nullable=False),
            default=24,
            title="Full resend hours",
            description=(
                "Incremental streams send every record again once this many hours, 0 or more, have passed since "
                "they last did; 0: in every run."
            ),
        ),
        th.Property(
            "concurrency",
            th.IntegerType(minimum=1, maximum=32, nullable=False),
            default=8,
            title="Concurrency",
            description="Pages requested at once, from 1 to 32.",
        ),
        th.Property(
            "request_timeout",
            th.DecimalType(exclusive_minimum=0, maximum=3600, nullable=False),
            default=60,
            title="Request timeout",
            description="Seconds that one whole answer may take, more than 0 and up to 3600.",
        ),
        th.Property(
            "max_retries",
            th.IntegerType(minimum=0, maximum=100, nullable=False),
            default=5,
            title="Maximum retries",
            description="How often a request that failed is tried again after the first time, from 0 to 100.",
        ),
        th.Property(
            "user_agent",
            th.StringType(nullable=False),
            default=f"tap-trackly/{version('tap-trackly')}",
            title="User agent",
            description="What the tap calls itself in each request, one line of plain letters.",
        ),
    ).to_dict()

    def discover_streams(self) -> Sequence[Stream]:
        """Return the streams of the account."""
        return [stream(self) for stream in STREAMS]

    @property
    def streams(self) -> dict[str, Stream]:
        """The streams, each after those that its records refer to; the SDK would sort them by name."""
        found = super().streams
        return {stream.name: found[stream.name] for stream in STREAMS}
