"""Runs the installed command `tap-trackly`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import FormatChecker
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for

from tap_trackly import tap

TAP = Path(sys.executable).with_name("tap-trackly")
STREAMS: list[str] = [vars(stream)["name"] for stream in tap.STREAMS]
SPECIFICATION = Path(__file__).parent / "specification" / "list_offers.json"
BOOKMARK = "2025-01-01T00:00:00+00:00"
FORMATS = FormatChecker(())


@dataclass
class Run:
    """The result of a run: its exit status, output, log and messages, which must be valid."""

    status: int
    stdout: str
    log: str
    messages: list[dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        self.messages = parse_messages(self.stdout)

    @property
    def records(self) -> list[dict[str, Any]]:
        return [message["record"] for message in self.messages if message["type"] == "RECORD"]

    def records_of(self, stream: str) -> list[dict[str, Any]]:
        return [
            message["record"] for message in self.messages if message.get("stream") == stream and "record" in message
        ]

    @property
    def ids(self) -> list[str]:
        return sorted(record["id"] for record in self.records)

    @property
    def by_id(self) -> dict[str, dict[str, Any]]:
        return {record["id"]: record for record in self.records}

    @property
    def states(self) -> list[dict[str, Any]]:
        return [message["value"] for message in self.messages if message["type"] == "STATE"]

    @property
    def state(self) -> dict[str, Any]:
        return self.states[-1]

    @property
    def bookmark(self) -> str | None:
        value = self.state["bookmarks"]["offers"].get("replication_key_value")
        return None if value is None else str(value)

    def lines(self, level: str) -> list[str]:
        """Return the tap's own log lines of a level, without those of Python and the SDK."""
        return [line for line in self.log.splitlines() if f"| {level}" in line and "| tap-trackly" in line]

    @property
    def retries(self) -> list[tuple[str, float]]:
        """The warning of each retry, with the wait in seconds."""
        found = [(line, re.search(r" in ([0-9.]+) s after try \d+", line)) for line in self.lines("WARNING")]
        return [(line, float(match[1])) for line, match in found if match]

    def assert_failed(self, *words: str) -> None:
        """Check that the run failed with one line that has these words, and did not advance the bookmark."""
        assert self.status == 1, self.log
        assert "Traceback" not in self.log
        assert max(map(len, self.log.splitlines())) < 1000
        (line,) = self.lines("ERROR")
        for word in words:
            assert word in line
        for state in self.states:
            bookmark = state["bookmarks"].get("offers", {})
            assert bookmark.get("replication_key_value") in {None, BOOKMARK}
            assert "last_full_send" not in bookmark


def parse_messages(stdout: str) -> list[dict[str, Any]]:
    """Parse Singer messages, and check that no line is cut and each record is valid against its SCHEMA."""
    *lines, rest = stdout.split("\n")
    assert rest == "", "the last line is cut"
    validators: dict[str, Validator] = {}
    messages = [exact(line) for line in lines]
    for message in messages:
        assert isinstance(message, dict), message
        if message["type"] == "SCHEMA":
            validator = validator_for(message["schema"])
            validator.check_schema(message["schema"])
            validators[message["stream"]] = validator(message["schema"], format_checker=FORMATS)
        elif message["type"] == "RECORD":
            validators[message["stream"]].validate(message["record"])
        else:
            assert message["type"] in {"BATCH", "STATE"}
    return messages


@FORMATS.checks("date-time", raises=ValueError)
def _has_time_zone(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


def exact(text: str) -> Any:
    """Parse JSON, with numbers as decimals."""
    return json.loads(text, parse_float=Decimal, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of this process without settings of the tap and proxies, with some variables added."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TAP_TRACKLY_") and not name.lower().endswith("_proxy")
    }
    return {**inherited, "NO_PROXY": "*", **variables}


@contextmanager
def started(
    config: Mapping[str, Any] | None = None,
    *options: str,
    state: Mapping[str, Any] | None = None,
    catalog: Mapping[str, Any] | None = None,
    variables: Mapping[str, str] | None = None,
    command: Sequence[str | Path] = (TAP,),
    **popen: Any,
) -> Iterator[subprocess.Popen[str]]:
    """Start the tap, and kill it at the end. With a config and no catalog, it reads the offers."""
    if config is not None and catalog is None and not options:
        catalog = selecting("offers")
    if config and "CONCURRENCY" in os.environ:
        config = {"concurrency": int(os.environ["CONCURRENCY"]), **config}
    arguments = [*command, *options]
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (("config", config), ("state", state), ("catalog", catalog)):
            if content is not None:
                file = Path(folder, name)
                file.write_text(json.dumps(content))
                arguments += [f"--{name}", file]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen}
        with subprocess.Popen(arguments, encoding="utf-8", env=environment(**(variables or {})), **pipes) as process:
            try:
                yield process
            finally:
                process.kill()


def run_tap(config: Mapping[str, Any] | None = None, *options: str, **how: Any) -> Run:
    """Run the tap with the arguments of `started` until it ends."""
    with started(config, *options, **how) as process:
        stdout, log = process.communicate(timeout=120)
    return Run(process.returncode, stdout, log)


def output_of(*options: str) -> str:
    """Run the tap with options such as --discover, and return its output."""
    return subprocess.run(
        [TAP, *options], env=environment(), capture_output=True, encoding="utf-8", timeout=120, check=True
    ).stdout


_discovered = cache(output_of)


def selecting(*names: str) -> dict[str, Any]:
    """Return the discovered catalog with only these streams selected."""
    catalog: dict[str, Any] = json.loads(_discovered("--discover"))
    for stream in catalog["streams"]:
        (entry,) = [entry for entry in stream["metadata"] if not entry["breadcrumb"]]
        entry["metadata"]["selected"] = stream["tap_stream_id"] in names
    return catalog


def offers_catalog(**selections: Mapping[str, Any]) -> dict[str, Any]:
    """Return a catalog of the offers, with changes of the metadata by field."""
    (stream,) = [stream for stream in selecting("offers")["streams"] if stream["tap_stream_id"] == "offers"]
    for entry in stream["metadata"]:
        entry["metadata"].update(selections.get(entry["breadcrumb"][-1] if entry["breadcrumb"] else "", {}))
    return {"streams": [stream]}


def offers_state(bookmark: str | None = BOOKMARK, **more: str) -> dict[str, Any]:
    """Return a state of the offers. Without `last_full_send`, no full resend is due in the next run."""
    return {"bookmarks": {"offers": {"replication_key": "updated_at", "replication_key_value": bookmark, **more}}}
