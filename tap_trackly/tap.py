"""The settings of the tap, the list of its streams and the command line."""

import gc
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import click
from singer_sdk import Tap
from singer_sdk import typing as th
from singer_sdk.exceptions import ConfigurationError, ConfigValidationError, SingerSDKError
from singer_sdk.mapper import PluginMapper
from singer_sdk.singerlib import Catalog, StateMessage
from typing_extensions import override

from tap_trackly import input_files, streams
from tap_trackly.client import TracklyStream
from tap_trackly.log import MAX_LINE, MaskingFormatter, count, one_line
from tap_trackly.output import LineWriter, end_on_signal
from tap_trackly.pagination import ListingError

STREAMS: Sequence[type[TracklyStream]] = (
    streams.OffersStream,
    streams.ListsStream,
    streams.AudiencesStream,
    streams.CreativesStream,
    streams.SchedulesStream,
    streams.ContactsStream,
)
_Object = Mapping[str, Any]
# In a regular expression of Python, $ also matches before a newline at the end.
_URL = th.StringType(pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://(\[[0-9a-fA-F:]+\]|[\w.-]+)(:\d+)?(/[^\s?#]*)?$(?!\n)")
_HEADER = th.StringType(pattern=r"^[!-~][ -~]*$(?!\n)")
_HOURS = th.IntegerType(minimum=0, maximum=8760)
_STATUSES = [*streams.OFFER_STATUSES]
_CHOICE = th.CustomType({"type": ["array"], "items": {"type": "string", "enum": _STATUSES}, "minItems": 1})


def _setting(name: str, kind: Any, description: str, **options: Any) -> th.Property[Any]:
    title = name.replace("_", " ").capitalize().replace("Api", "API").replace("url", "URL")
    return th.Property(name, kind, title=title, description=description, **options)


class TapTrackly(Tap):
    """Reads a Trackly SMS account: offers, lists, audiences, creatives, schedules and contacts."""

    name = "tap-trackly"
    message_writer_class = LineWriter
    config_jsonschema = th.PropertiesList(
        _setting("api_key", th.StringType, "API key, from Settings > API Keys.", required=True, secret=True),
        _setting("api_url", _URL, "HTTP(S) URL without user and query.", default="https://app.tracklysms.com/api/v2"),
        _setting("start_date", th.DateTimeType, "Incremental streams skip records last updated before this time."),
        _setting("offer_statuses", _CHOICE, "Offer statuses to read: active, paused, archived.", default=_STATUSES),
        _setting("page_size", th.IntegerType(minimum=1, maximum=100), "Records per page; default: endpoint maximum."),
        _setting("full_resend_hours", _HOURS, "Hours between full resends.", default=24),
        _setting("concurrency", th.IntegerType(minimum=1, maximum=32), "Concurrent requests.", default=8),
        _setting("request_timeout", th.IntegerType(minimum=1, maximum=3600), "Timeout in seconds.", default=60),
        _setting("max_retries", th.IntegerType(minimum=0, maximum=100), "Retries per request.", default=5),
        _setting("fail_if_incomplete", th.BooleanType, "Exit with status 1 if a read was incomplete.", default=False),
        _setting("user_agent", _HEADER, "User-Agent header.", default=f"tap-trackly/{version('tap-trackly')}"),
    ).to_dict()

    def __init__(self, *, config: _Object | None = None, catalog: _Object | None = None, **kwargs: Any) -> None:
        """Read the settings. Nulls, which some schedulers pass, are settings that are not set.

        Raises:
            ConfigurationError: If a setting or the catalog is invalid.
        """
        given = {name: value for name, value in (config or {}).items() if value is not None}
        MaskingFormatter.secret = str(given.get("api_key") or os.environ.get("TAP_TRACKLY_API_KEY", "")).strip()
        self.append_builtin_config(self.config_jsonschema)
        # The SDK knows two settings that are not in its schema.
        known = [*self.config_jsonschema["properties"], "emit_activate_version_messages", "loglevel"]
        for name in given:
            if name not in known and not name.startswith("_"):
                hint = input_files.did_you_mean(name, known)
                self.logger.warning("Unknown setting %s is ignored. %s", one_line(name), hint)
        own = None if catalog is None else input_files.own_catalog(catalog, STREAMS)
        try:
            super().__init__(config=given, catalog=own, **kwargs)
        except (ConfigValidationError, ValueError) as error:  # the latter from a number in the environment
            errors = getattr(error, "errors", [f"{error} in the environment"])
            words = "; ".join(input_files.explain(each, self.config_jsonschema["properties"]) for each in errors)
            raise ConfigurationError(f"Invalid settings: {words}.") from None
        MaskingFormatter.secret = str(self.config.get("api_key", "")).strip()  # also from a file .env
        if re.match(r"http://(?!localhost|127\.|\[::1])", self.config["api_url"], re.IGNORECASE):
            self.logger.warning("The API key is sent unencrypted: the setting api_url is http, not https.")

    @property
    @override
    def streams(self) -> dict[str, TracklyStream]:  # type: ignore[override]
        """The streams, in the order of `STREAMS`."""
        found: Any = super().streams
        return {stream.name: found[stream.name] for stream in STREAMS}  # type: ignore[misc]

    def selected_streams(self) -> list[TracklyStream]:
        """Return the selected streams.

        Raises:
            ConfigurationError: If there are none.
        """
        if selected := [stream for stream in self.streams.values() if stream.selected]:
            return selected
        raise ConfigurationError("No stream is selected. Check `select` in meltano.yml, or the catalog.")

    @override
    def discover_streams(self) -> Sequence[TracklyStream]:
        return [stream(self) for stream in STREAMS]

    @override
    def load_state(self, state: dict[str, Any]) -> None:
        if state:
            super().load_state(input_files.own_state(state, self.streams))
            for stream in self.streams.values():
                stream.begin_send()

    @override
    def setup_mapper(self) -> None:
        fields = {stream.name: stream.effective_schema["properties"] for stream in self.streams.values()}
        if errors := [*input_files.setting_errors(self.config, fields)]:
            raise ConfigurationError(f"Invalid setting {' '.join(errors)}")
        self.mapper = PluginMapper(dict(self.config), self.logger)
        maps = self.mapper.stream_maps_dict
        for name, entry in self.catalog.items():
            # A map for '*' may not fit streams that are not selected.
            self.mapper.stream_maps_dict = maps if self.streams[name].selected else {}
            self.mapper.register_raw_streams_from_catalog(Catalog({name: entry}))

    def run(self) -> int:
        """Sync the selected streams, and return the exit status.

        Raises:
            ConfigurationError: If no stream is selected.
        """
        began, selected = time.monotonic(), self.selected_streams()
        self.sync_all()
        # The SDK leaves out a STATE that repeats the last one; some targets return no state if a RECORD comes last.
        self.message_writer.write_message(StateMessage(value=self.state))
        results = {stream.name: stream.result for stream in selected if stream.result}
        words = "; ".join(f"{result}: {name}" for name, result in results.items()) or "all complete"
        numbers = (count(len(selected), "stream"), time.monotonic() - began)
        self.logger.info("Run finished: %s, %.1f seconds, %s.", *numbers, words)
        return int("failed" in results.values() or bool(results and self.config["fail_if_incomplete"]))

    @classmethod
    def main(cls) -> None:
        """Run the command line; a failure is one line in the log, and exit status 1."""
        try:
            command = cls.cli  # also configures logging
            for handler in logging.getLogger().handlers:
                handler.setFormatter(MaskingFormatter(handler.formatter))
            # The SDK logs a warning for each record without a replication key, urllib3 headers that it cannot parse.
            for name in ("singer_sdk", "urllib3"):
                logging.getLogger(name).setLevel(logging.ERROR)
            end_on_signal(cls.logger)
            # Records have no reference cycles: run the garbage collector less often, and never on imported modules.
            gc.freeze()
            gc.set_threshold(50_000)
            command()
        except Exception as error:  # noqa: BLE001 - one that is not the SDK's is a bug, or an expression that fails
            trace = "".join(traceback.format_tb(error.__traceback__))
            words = one_line(str(error), MAX_LINE)
            if not isinstance(error, SingerSDKError):  # the text may contain values of records
                cause = "Invalid setting stream_maps: an expression fails" if "singer_sdk/mapper" in trace else "Failed"
                words = f"{cause} with {type(error).__name__}. TAP_TRACKLY_LOGLEVEL=DEBUG shows where."
            cls.logger.error(words)  # noqa: TRY400
            cls.logger.debug("Traceback:\n%s", trace)
            sys.exit(1)

    @classmethod
    @override
    def get_singer_command(cls) -> click.Command:
        command = super().get_singer_command()
        options: dict[str | None, Any] = {option.name: option for option in command.params}
        options["test"].help = "Log how many records each selected stream has; --test=schema emits the schemas."
        for option in (options["catalog"], options["state"]):  # read before --test
            option.type, option.callback, option.is_eager = click.STRING, _read, True
        return command

    @classmethod
    @override
    def cb_config(cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]) -> Any:
        given: Any = super().cb_config(ctx, param, tuple(name for name in value if name == "ENV"))
        for path in value:
            given.config.update({} if path == "ENV" else input_files.read_object(path, "config"))
        return given

    @classmethod
    @override
    def cb_test(cls, ctx: click.Context, param: click.Option, value: str) -> None:
        """Request the first page of each listing of the selected streams, for `--test`; emit nothing."""
        if value not in {"disabled", "schema"}:
            given, status = ctx.params["config"], 0
            tap = cls(config=given.config, catalog=ctx.params.get("catalog"), parse_env_config=given.parse_env)
            for stream in tap.selected_streams():
                try:
                    tap.logger.info("%s: OK, %s", stream.name, count(stream.count_records(), "record"))
                except ListingError as error:
                    tap.logger.error("%s: %s", stream.name, one_line(str(error), MAX_LINE))  # noqa: TRY400
                    status = 1
            ctx.exit(status)
        super().cb_test(ctx, param, value)

    @classmethod
    @override
    def invoke(cls, *, config: Any = None, catalog: Any = None, state: Any = None, **about: Any) -> None:
        super(Tap, cls).invoke(**about)  # ends the process after --about
        cls.print_version(print_fn=cls.logger.info)
        tap = cls(config=config.config, parse_env_config=config.parse_env, catalog=catalog, state=state)
        sys.exit(tap.run())


def _read(_: click.Context, option: click.Parameter, path: str | None) -> dict[str, Any] | None:
    return None if path is None else input_files.read_object(path, str(option.name))
