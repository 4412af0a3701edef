"""How a run starts, is interrupted and ends."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import cached_property
from threading import Thread
from typing import IO, Any

import click
from singer_sdk import Tap
from singer_sdk.configuration._dict_config import parse_environment_config
from singer_sdk.exceptions import SingerSDKError
from singer_sdk.helpers._classproperty import classproperty
from singer_sdk.helpers._state import StateWriter
from singer_sdk.helpers.types import TapState
from singer_sdk.singerlib import StateMessage

from tap_trackly.messages import WRITING, LineWriter
from tap_trackly.pagination import RecordError
from tap_trackly.settings import SettingsError, check, check_catalog, check_state, takes, tidy

STOPS = {signal.SIGINT, signal.SIGTERM}
LONGEST_WRITE = 2.0  # seconds that a stopped run waits for a line to be taken by the log or the target


class EveryStateWriter(StateWriter):
    """Passes on each STATE, where the SDK leaves out one that is equal to the last, whatever came between.

    A target only knows that a run came to its end when the last message is a STATE.
    """

    def write_state(self, state: TapState) -> None:
        """Write a STATE message."""
        self._message_writer.write_message(StateMessage(value=state))


class LifecycleTap(Tap):
    """A tap whose failures are one line each, with an exit status that tells what happened."""

    message_writer_class = LineWriter

    @classmethod
    def main(cls) -> None:
        """Run the command line. A failure is one line in the log and exit status 1.

        SIGTERM and SIGINT end the process with exit status 143 and 130.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        Thread(target=_end_when_told, args=(cls.logger,), daemon=True).start()
        command = cls.cli  # sets up logging, too
        for handler in logging.getLogger().handlers:
            handler.addFilter(_says_something)
        try:
            command()
        except Exception as error:
            cls.logger.error("%s", _in_words(error))  # noqa: TRY400
            cls.logger.debug("Where it came from:", exc_info=True)
            sys.exit(1)

    @classmethod
    def cb_config(cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]) -> Any:
        """Read the files of `--config`.

        Raises:
            SettingsError: If one of them is missing or holds no JSON object.
        """
        try:
            return super().cb_config(ctx, param, value)
        except (OSError, TypeError, ValueError):
            # The value may be a config, with its key, that was passed in place of a file.
            raise SettingsError("--config takes the name of a file with a JSON object, or ENV.") from None

    @classmethod
    def invoke(cls, *, state: IO[str] | None = None, catalog: IO[str] | None = None, **kwargs: Any) -> None:
        """Run the tap.

        Raises:
            SettingsError: If the state or the catalog is none.
        """
        super().invoke(
            state=state and _checked(state, check_state), catalog=catalog and _checked(catalog, check_catalog), **kwargs
        )

    @cached_property
    def state_writer(self) -> StateWriter:
        """The writer of the streams' STATE messages."""
        return EveryStateWriter(self.message_writer)

    @classproperty
    def _env_var_config(cls) -> dict[str, Any]:  # noqa: N805
        # Private, because the SDK has no public place for it: its own reading of the environment
        # ends at a text that is no number with an error that does not name the setting.
        schema = cls.config_jsonschema
        cls.append_builtin_config(schema)
        config: dict[str, Any] = {}
        for name, setting in schema["properties"].items():
            try:
                config |= parse_environment_config({"properties": {name: setting}}, cls._env_var_prefix)
            except ValueError:
                raise SettingsError(takes(name, schema)) from None
        return config

    def _validate_config(self, *, raise_errors: bool = True) -> list[str]:
        # Private, because the SDK has no public place between reading the settings and printing
        # those that it refuses, and a key that is refused must not be printed.
        schema = self.config_jsonschema
        self.append_builtin_config(schema)
        self._config = tidy(self._config, schema)
        try:
            check(self._config, schema)
        except SettingsError as error:
            if raise_errors:
                raise
            return [str(error)]
        return []


def _end_when_told(logger: logging.Logger) -> None:
    """Wait for a signal, in a thread of its own, and end the process.

    The SDK's handler would write a STATE, perhaps into the middle of another message, and exit with 0
    as if all had been read. A handler also could not run while a slow target blocks a write.
    """
    number = signal.sigwait(STOPS)
    # In a thread, because the log may be blocked like the target.
    words = ("Stopped by %s before the end; bookmarks stay.", signal.Signals(number).name)
    goodbye = Thread(target=logger.warning, args=words, daemon=True)
    goodbye.start()
    goodbye.join(LONGEST_WRITE)
    WRITING.acquire(timeout=LONGEST_WRITE)
    os._exit(128 + number)


def _in_words(error: Exception) -> str:
    """An error as one line; those that are not made for users with their kind."""
    known = isinstance(error, (SingerSDKError, RecordError))
    return " ".join((str(error) if known else f"{type(error).__name__}: {error}").split())


def _says_something(record: logging.LogRecord) -> bool:
    """Whether a log line is not one of the two of the SDK that mislead.

    One comes before each failure, though the line that says what happened follows. The other warns that
    progress is not resumable, at a moment when all has been read.
    """
    return not str(record.msg).startswith(
        ("An unhandled error occurred while syncing", "Stream is assumed to be unsorted")
    )


def _checked(file: IO[str], check_content: Callable[[Any], None]) -> IO[str]:
    text = file.read()
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    check_content(content)
    return io.StringIO(text)
