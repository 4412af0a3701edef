"""The settings of the tap, the list of its streams and the command line."""

from __future__ import annotations

import gc
import logging
import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import IO, Any
from urllib.parse import urlsplit

import click
from requests.utils import get_environ_proxies
from singer_sdk import Tap
from singer_sdk import typing as th
from singer_sdk.exceptions import ConfigurationError, ConfigValidationError, SingerSDKError
from singer_sdk.mapper import PluginMapper
from typing_extensions import override

from tap_trackly import streams
from tap_trackly.client import TracklyStream
from tap_trackly.input_files import own_catalog, own_state, read_config_file, read_json
from tap_trackly.log import MAX_LINE, MaskingFormatter, count, one_line
from tap_trackly.output import LineWriter, end_on_signal
from tap_trackly.pagination import ListingError
from tap_trackly.records import utc_text
from tap_trackly.settings import explain, stream_map_errors, unknown_settings, unused_stream_maps

STREAMS: Sequence[type[TracklyStream]] = (
    streams.OffersStream,
    streams.ListsStream,
    streams.AudiencesStream,
    streams.CreativesStream,
    streams.SchedulesStream,
    streams.ContactsStream,
)
_NAMES: Sequence[str] = [stream.name for stream in STREAMS]  # type: ignore[misc]
API_URL = "https://app.tracklysms.com/api/v2"
USER_AGENT = f"tap-trackly/{version('tap-trackly')}"
_TEXT = th.StringType(nullable=False)
_URL = th.StringType(
    nullable=False, pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://(\[[0-9a-fA-F:]+\]|[\w.-]+)(:\d+)?(/[^\s?#]*)?$"
)


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
        _setting("api_url", _URL, "API URL", "Base URL of the API; a trailing slash is fine.", default=API_URL),
        _setting(
            "start_date",
            th.DateTimeType(nullable=False),
            "Start date",
            "ISO 8601 date or time; incremental streams skip records last updated before it.",
        ),
        _setting(
            "offer_statuses",
            th.CustomType(
                {"type": ["array"], "items": {"type": "string", "enum": [*streams.OFFER_STATUSES]}, "minItems": 1}
            ),
            "Offer statuses",
            "Offer statuses to read: active, paused, archived. With all three, undocumented statuses are read, too.",
            default=[*streams.OFFER_STATUSES],
        ),
        _setting("page_size", _integer(1, 100), "Page size", "Records per page, 1 to 100; default: endpoint maximum."),
        _setting(
            "full_resend_hours",
            _integer(0, 8760),
            "Full resend hours",
            "Hours between full resends, in which incremental streams emit all records; 0: in every run.",
            default=24,
        ),
        _setting("concurrency", _integer(1, 32), "Concurrency", "Concurrent requests, from 1 to 32.", default=8),
        _setting(
            "request_timeout",
            _integer(1, 3600),
            "Request timeout",
            "Timeout in seconds for the body of a response and for each wait before it, from 1 to 3600.",
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
        catalog: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Read the settings. Nulls, which some schedulers pass, are settings that are not set.

        Raises:
            ConfigurationError: If a setting or the catalog is invalid.
        """
        given = {name: value for name, value in (config or {}).items() if value is not None}
        given |= {name: value.strip() for name, value in given.items() if isinstance(value, str)}
        _hide(given.get("api_key") or os.environ.get("TAP_TRACKLY_API_KEY", ""))
        entries = None if catalog is None else own_catalog(catalog, STREAMS)
        try:
            super().__init__(config=given, catalog=entries, **kwargs)
        except ConfigValidationError as error:
            raise ConfigurationError(explain(error.errors)) from None
        except ValueError as error:
            raise ConfigurationError(f"Invalid settings in the environment: {error}.") from None
        try:
            utc_text(self.config.get("start_date", "2025-01-01"))
        except ValueError as error:
            raise ConfigurationError(f"Invalid settings: start_date {error}.") from None
        _hide(self.config.get("api_key", ""))
        if is_sent_in_clear(self.config["api_url"]):
            self.logger.warning("The API key is sent unencrypted: the setting api_url is http, not https.")
        for name, similar in unknown_settings(self.config, self.config_jsonschema["properties"]):
            self.logger.warning("Unknown setting %s is ignored. Did you mean %s?", name, similar)

    @property
    @override
    def streams(self) -> dict[str, TracklyStream]:  # type: ignore[override]
        """The streams, in the order of `STREAMS`."""
        found: Any = super().streams
        return {name: found[name] for name in _NAMES}

    @property
    def selected_streams(self) -> list[TracklyStream]:
        """The selected streams."""
        return [stream for stream in self.streams.values() if stream.selected]

    @override
    def discover_streams(self) -> Sequence[TracklyStream]:
        return [stream(self) for stream in STREAMS]

    @override
    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(own_state(state, self.streams))
        for stream in self.streams.values() if state else ():
            stream.begin_send()

    @override
    def setup_mapper(self) -> None:
        maps = self.config.get("stream_maps") or {}
        schemas = {stream.name: stream.effective_schema["properties"] for stream in self.streams.values()}
        if maps and self.config.get("batch_config"):
            raise ConfigurationError("Invalid settings: batch_config cannot be combined with stream_maps.")
        if self.config.get("flattening_enabled") and self.config.get("batch_config"):
            raise ConfigurationError("Invalid settings: batch_config cannot be combined with flattening_enabled.")
        if errors := [*stream_map_errors(maps, schemas)]:
            raise ConfigurationError(f"Invalid setting stream_maps: {'; '.join(errors)}.")
        for name in unused_stream_maps(maps, [stream.name for stream in self.selected_streams]):
            self.logger.info("The map for '%s' in stream_maps is not used: the stream is not selected.", name)
        super().setup_mapper()

    def run(self) -> int:
        """Sync the selected streams, and return the exit status.

        Raises:
            ConfigurationError: If no stream is selected.
        """
        began, selected = time.monotonic(), self.selected_streams
        if not selected:
            raise ConfigurationError("No stream is selected. Check `select` in meltano.yml, or the catalog.")
        for stream in selected:
            if stream.personal_fields and _has_personal_values(stream):
                self.logger.info(
                    "%s: %s is loaded unhashed, see docs/personal-data.md.", stream.name, stream.personal_fields[0]
                )
        self.sync_all()
        failed = [stream.name for stream in selected if stream.failure]
        incomplete = [stream.name for stream in selected if stream.is_incomplete and not stream.failure]
        results = [
            f"{word}: {', '.join(names)}" for word, names in (("failed", failed), ("incomplete", incomplete)) if names
        ]
        written = self.message_writer.records if isinstance(self.message_writer, LineWriter) else 0
        self.logger.info(
            "Run finished: %s written, %s, %s, %.1f seconds, %s.",
            count(written, "record"),
            count(len(selected), "stream"),
            count(sum(stream.requests_sent for stream in selected), "request"),
            time.monotonic() - began,
            "; ".join(results) or "all complete",
        )
        return int(bool(failed) or (bool(incomplete) and self.config["fail_if_incomplete"]))

    def test(self) -> int:
        """Request the first page of each listing of the selected streams, and return the exit status.

        Raises:
            AccountError: If every stream would get this error.
        """
        status = 0
        for stream in self.selected_streams:
            try:
                self.logger.info("%s: OK, %s", stream.name, count(stream.count_records(), "record"))
            except ListingError as error:
                status = 1
                self.logger.error("%s: %s", stream.name, one_line(str(error), MAX_LINE))  # noqa: TRY400
        return status

    @classmethod
    def main(cls) -> None:
        """Run the command line; a failure is one line in the log, and exit status 1."""
        for name in ("LOGLEVEL", "TAP_TRACKLY_LOGLEVEL", "SINGER_SDK_LOG_CONFIG"):
            if os.environ.get(name) == "":
                del os.environ[name]
        try:
            command = cls.cli  # also configures logging
        except ValueError:
            sys.exit("Invalid LOGLEVEL: expected debug, info, warning, error or critical.")
        for handler in logging.getLogger().handlers:
            handler.setFormatter(MaskingFormatter(handler.formatter))
        # The SDK logs a warning for each record without a replication key, urllib3 headers that it cannot parse.
        for name in ("singer_sdk", "urllib3"):
            logging.getLogger(name).setLevel(logging.ERROR)
        end_on_signal(cls.logger)
        # Records have no reference cycles: run the garbage collector less often, and never on imported modules.
        gc.freeze()
        gc.set_threshold(50_000)
        try:
            command()
        except SingerSDKError as error:
            cls.logger.error(one_line(str(error), MAX_LINE))  # noqa: TRY400
            _log_traceback(error, cls.logger)
            sys.exit(1)
        except Exception as error:  # noqa: BLE001 - anything else is a bug, or an expression that fails
            # The text may contain values of records.
            modules = {frame.f_globals["__name__"] for frame, _ in traceback.walk_tb(error.__traceback__)}
            cause = (
                "Invalid setting stream_maps: an expression fails" if PluginMapper.__module__ in modules else "Failed"
            )
            cls.logger.error("%s with %s. TAP_TRACKLY_LOGLEVEL=DEBUG shows where.", cause, type(error).__name__)  # noqa: TRY400
            _log_traceback(error, cls.logger)
            sys.exit(1)

    @classmethod
    @override
    def get_singer_command(cls) -> click.Command:
        command = super().get_singer_command()
        for option in command.params:
            option.is_eager |= option.name == "catalog"  # before --test, which reads it
            if option.name == "test" and isinstance(option, click.Option):
                option.help = (
                    "Request the first page of each listing of the selected streams, and log the numbers of records; "
                    "emit nothing. Use --test=schema to emit the schemas."
                )
        return command

    @classmethod
    @override
    def cb_config(cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]) -> Any:
        given: Any = super().cb_config(ctx, param, tuple(name for name in value if name == "ENV"))
        for name in value:
            if name != "ENV":
                given.config.update(read_config_file(name))
        return given

    @classmethod
    @override
    def cb_test(cls, ctx: click.Context, param: click.Option, value: str) -> None:
        if value != "all":
            super().cb_test(ctx, param, value)
            return
        given, catalog = ctx.params["config"], ctx.params.get("catalog")
        config = {**given.config, "max_retries": min(1, given.config.get("max_retries") or 1)}
        tap = cls(config=config, catalog=catalog and read_json(catalog, "catalog"), parse_env_config=given.parse_env)
        ctx.exit(tap.test())

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
            state=read_json(state, "state") if state else None,
            catalog=read_json(catalog, "catalog") if catalog else None,
            parse_env_config=config.parse_env,
        )
        sys.exit(tap.run())


def is_sent_in_clear(url: str) -> bool:
    """Return whether requests to a URL leave this machine unencrypted."""
    parts = urlsplit(url)
    is_local = parts.hostname in {"localhost", "127.0.0.1", "::1"} and not get_environ_proxies(url)
    return parts.scheme == "http" and not is_local


def _hide(api_key: Any) -> None:
    MaskingFormatter.secret = str(api_key).strip()


def _has_personal_values(stream: TracklyStream) -> bool:
    name, maps = stream.personal_fields[0], stream.config.get("stream_maps") or {}
    is_mapped = any(isinstance(fields, Mapping) and name in fields for fields in maps.values())
    return not is_mapped and name in stream.stream_maps[0].transformed_schema["properties"]


def _log_traceback(error: Exception, logger: logging.Logger) -> None:
    logger.debug("Traceback:\n%s", "".join(traceback.format_tb(error.__traceback__)))
