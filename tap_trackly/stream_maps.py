"""Finds the expression of stream_maps that fails; the SDK names neither stream nor field."""

from __future__ import annotations

from collections.abc import Mapping
from logging import Logger
from typing import Any

from singer_sdk.mapper import PluginMapper
from singer_sdk.streams import Stream


class StreamMapError(ValueError):
    """An expression of the setting stream_maps fails; the message names stream, field and expression."""


def find_failing_expression(stream: Stream, record: Mapping[str, Any] | None, logger: Logger) -> StreamMapError | None:
    """Return an error for the first expression that fails for a record of a stream; None if there is none."""
    config = {**stream.config}
    if record is None:
        return None
    for field, expression in (config.get("stream_maps") or {}).get(stream.name, {}).items():
        mapper = PluginMapper({**config, "stream_maps": {stream.name: {field: expression}}}, logger)
        try:
            mapper.register_raw_stream_schema(stream.name, stream.effective_schema, stream.primary_keys)
            for stream_map in mapper.stream_maps[stream.name]:
                stream_map.transform(dict(record))
        except Exception as error:  # noqa: BLE001 - what an expression raises may be anything
            place = f"stream '{stream.name}', field '{field}', expression {expression!r}"
            return StreamMapError(f"Invalid setting stream_maps: {place}: {type(error).__name__}: {error}.")
    return None
