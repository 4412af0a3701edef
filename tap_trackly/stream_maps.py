"""Finds the expression of stream_maps that fails; the SDK names neither stream nor field."""

from __future__ import annotations

from collections.abc import Mapping
from logging import Logger
from typing import Any

from singer_sdk.exceptions import MapExpressionError
from singer_sdk.mapper import PluginMapper
from singer_sdk.streams import Stream


def check_expressions(stream: Stream, record: Mapping[str, Any], logger: Logger) -> None:
    """Try each expression of the setting stream_maps with a record of a stream.

    Raises:
        MapExpressionError: If one fails; the message names stream, field and expression.
    """
    stream_map = (stream.config.get("stream_maps") or {}).get(stream.name)
    for field, expression in stream_map.items() if isinstance(stream_map, Mapping) else ():  # else it is removed
        mapper = PluginMapper({**stream.config, "stream_maps": {stream.name: {field: expression}}}, logger)
        try:
            mapper.register_raw_stream_schema(stream.name, stream.effective_schema, stream.primary_keys)
            for each in mapper.stream_maps[stream.name]:
                each.transform(dict(record))
        except Exception as error:  # noqa: BLE001 - an expression may raise anything
            place = f"stream '{stream.name}', field '{field}', expression {expression!r}"
            message = f"Invalid setting stream_maps: {place}: {type(error).__name__}: {error}."
            raise MapExpressionError(message) from None
