"""The settings of the tap, the list of its streams and the command line."""

from __future__ import annotations

import gc
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import IO, Any
from urllib.parse import urlsplit

import click
import dotenv
from requests.utils import get_environ_proxies
from singer_sdk import Tap
from singer_sdk import typing as th
from singer_sdk.exceptions import SingerSDKError
from singer_sdk.singerlib import StateMessage
from typing_extensions import override

from tap_trackly import settings, streams
from tap_trackly.client import TracklyStream
from tap_trackly.errors import LogFilter
from tap_trackly.output import LineWriter
from tap_trackly.stream_maps import check_expressions
from tap_trackly.summary import log_run

STREAMS: Sequence[type[TracklyStream]] = (
    streams.OffersStream,
    streams.ListsStream,
    streams.AudiencesStream,
    streams.CreativesStream,
    streams.SchedulesStream,
    streams.ContactsStream,
)
API_URL = "https://app.tracklysms.com/api/v2"
USER_AGENT = f"tap-trackly/{version('tap-trackly')}"
# Valid characters of an HTTP header. A line break would start another header.
_TEXT = th.StringType(nullable=False, pattern="^[ -~]+$")


def _setting(name: str, kind: Any, title: str, description: str, **options: Any) -> th.Property[Any]:
    return th.Property(name, kind, title=title, description=description, **options)


def _integer(minimum: int, maximum: int) -> th.IntegerType:
    return th.IntegerType(minimum=minimum, maximum=maximum, nullable=False)


class TapTrackly(Tap):
    """Reads a Trackly SMS account: offers, lists, audiences, creatives, schedules and contacts."""

    name = "tap-trackly"
    message_writer_class = LineWriter
    config_jsonschema = th.PropertiesList(
        _setting("api_key", _TEXT, "API key", "API key, from Settings > API Keys.", required=True, secret=True),
        _setting("api_url", _TEXT, "API URL", "Base URL of the API; a trailing slash is fine.", default=API_URL),
        _setting(
            "start_date",
            th.DateTimeType(nullable=False),
            "Start date",
            "ISO 8601 date or time; incremental streams skip records last updated before it.",
        ),
        _setting(
            "offer_statuses",
            th.CustomType({"type": ["array"], "items": {"enum": [*streams.OFFER_STATUSES]}, "minItems": 1}),
            "Offer statuses",
            "Offer statuses to read: active, paused, archived. With all three, undocumented statuses are read, too.",
            default=[*streams.OFFER_STATUSES],
        ),
        _setting("page_size", _integer(1, 100), "Page size", "Records per page, 1 to 100; default: endpoint maximum."),
        _setting(
            "full_resend_hours",
            th.DecimalType(minimum=0, nullable=False),
            "Full resend hours",
            "Hours between full resends, in which incremental streams emit all records; 0: in every run.",
            default=24,
        ),
        _setting("concurrency", _integer(1, 32), "Concurrency", "Concurrent requests, from 1 to 32.", default=8),
        _setting(
            "request_timeout",
            th.DecimalType(exclusive_minimum=0, maximum=3600, nullable=False),
            "Request timeout",
            "Timeout in seconds for a whole response, above 0 and up to 3600.",
            default=60,
        ),
        _setting("max_retries", _integer(0, 100), "Maximum retries", "Retries per request, from 0 to 100.", default=5),
        _setting(
            "fail_if_incomplete",
            th.BooleanType(nullable=False),
            "Fail if incomplete",
            "Exit with status 1 after all streams were read, if a read was incomplete.",
            default=False,
        ),
        _setting("user_agent", _TEXT, "User agent", "Value of the User-Agent header.", default=USER_AGENT),
    ).to_dict()

    def __init__(
        self,
        *,
        config: Mapping[str, Any] | None = None,
        parse_env_config: bool = False,
        validate_config: bool = True,
        **kwargs: Any,
    ) -> None:
        """Validate the settings before the SDK does: its errors would show their values.

        Raises:
            SettingsError: If a setting is missing or invalid.
        """
        if validate_config and not config and not parse_env_config:
            raise settings.SettingsError("Missing settings: pass --config FILE, or --config=ENV for the environment.")
        schema = self.config_jsonschema
        self.append_builtin_config(schema)
        config = dict(config or {})
        variables = {**dotenv.dotenv_values(dotenv.find_dotenv(usecwd=True)), **os.environ} if parse_env_config else {}
        environment = settings.read_environment(schema, variables)
        for warning in settings.unknown_settings([*config, *environment], schema):
            self.logger.warning("%s", warning)
        config |= {name: value for name, value in environment.items() if name in schema["properties"]}
        if validate_config:
            config = settings.check(config, schema)
            LogFilter.secret = config["api_key"]
            if is_sent_in_clear(config["api_url"]):
                self.logger.warning("The API key is sent unencrypted: the setting api_url is http, not https.")
        super().__init__(config=config, validate_config=validate_config, **kwargs)

    @override
    def discover_streams(self) -> Sequence[TracklyStream]:
        return [stream(self) for stream in STREAMS]

    @override
    def load_state(self, state: dict[str, Any]) -> None:
        settings.check_state(state, self.streams)
        super().load_state(state)

    @property
    def selected_streams(self) -> list[TracklyStream]:
        """The selected streams."""
        return [stream for stream in self.streams.values() if isinstance(stream, TracklyStream) and stream.selected]

    def run(self) -> int:
        """Sync the selected streams and return the exit status.

        Raises:
            MapExpressionError: If an expression of stream_maps fails.
        """
        began = time.monotonic()
        if not self.selected_streams:
            self.logger.warning("No stream is selected: nothing will be read.")
        try:
            self.sync_all()
        except Exception:
            for stream in self.selected_streams:
                if stream.latest_record:
                    check_expressions(stream, stream.latest_record, self.logger)
            raise
        summaries = [stream.summary for stream in self.selected_streams]
        if summaries and isinstance(self.message_writer, LineWriter) and not self.message_writer.ends_with_state:
            # The SDK skips a STATE that equals the last one, even if records were emitted since.
            self.write_message(StateMessage(value=self.state))
        log_run(summaries, time.monotonic() - began, self.logger)
        return int(self.config["fail_if_incomplete"] and any(summary.is_incomplete for summary in summaries))

    def test(self) -> int:
        """Request the first page of each listing, log the numbers of records and return the exit status."""
        status = 0
        for stream in self.selected_streams:
            try:
                self.logger.info("%s: OK, %d records", stream.name, stream.count_records())
            except SingerSDKError as error:
                status = 1
                self.logger.error("%s: %s", stream.name, error)  # noqa: TRY400
        return status

    @classmethod
    def main(cls) -> None:
        """Run the command line; a failure is one line in the log and exit status 1."""
        try:
            command = cls.cli  # also configures logging
        except ValueError:
            sys.exit("Invalid LOGLEVEL: expected debug, info, warning, error or critical.")
        # The SDK's helpers log a warning for each record without a replication key.
        logging.getLogger("singer_sdk").setLevel(logging.ERROR)
        for handler in logging.getLogger().handlers:
            handler.addFilter(LogFilter())
        # Records are freed without the garbage collector, so run it less often, and never on imported modules.
        gc.freeze()
        gc.set_threshold(50_000)
        try:
            command()
        except Exception as error:
            kind = "" if isinstance(error, SingerSDKError) else f"{type(error).__name__}: "
            cls.logger.error("%s%s", kind, error)  # noqa: TRY400
            cls.logger.debug("Traceback:", exc_info=True)
            sys.exit(1)

    @classmethod
    @override
    def cb_config(cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]) -> Any:
        # The SDK does not name a file that it cannot read. Each file is read once, because it may be a pipe.
        given: Any = super().cb_config(ctx, param, tuple(name for name in value if name == "ENV"))
        for name in value:
            if name != "ENV":
                given.config.update(settings.read_config_file(name))
        return given

    @classmethod
    @override
    def cb_test(cls, ctx: click.Context, param: click.Option, value: str) -> None:
        if value != "all":
            super().cb_test(ctx, param, value)
            return
        config = ctx.params["config"]
        ctx.exit(cls(config=config.config, parse_env_config=config.parse_env).test())

    @classmethod
    @override
    def invoke(  # type: ignore[override]
        cls,
        *,
        about: bool = False,
        about_format: str | None = None,
        config: Any = None,
        state: IO[str] | None = None,
        catalog: IO[str] | None = None,
    ) -> None:
        if about:
            cls.print_about(about_format)
            return
        cls.print_version(print_fn=cls.logger.info)
        tap = cls(
            config=config.config,
            state=None if state is None else settings.parse_file(state, "state"),
            catalog=None if catalog is None else settings.parse_catalog(settings.parse_file(catalog, "catalog")),
            parse_env_config=config.parse_env,
        )
        sys.exit(tap.run())


def is_sent_in_clear(url: str) -> bool:
    """Return whether requests to a URL leave this machine unencrypted."""
    parts = urlsplit(url)
    is_local = parts.hostname in {"localhost", "127.0.0.1", "::1"} and not get_environ_proxies(url)
    return parts.scheme == "http" and not is_local
