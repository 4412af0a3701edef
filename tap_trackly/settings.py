"""Explains invalid settings. Messages never show secrets. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import filter as matching
from typing import Any

_NOT_SETTINGS = {"emit_activate_version_messages", "loglevel"}  # known to the SDK, but not in its schema
# Settings whose values are not shown, because they may contain secrets.
_EXPECTED = {
    "api_key": "is not a text",
    "api_url": "is not an http or https URL without user, query and fragment",
    "stream_map_config": "is not an object",
}
_REMOVED = (None, "__NULL__")


def explain(errors: Sequence[str]) -> str:
    """Return one sentence for the errors of the SDK's validation, such as "101 is ... in config['page_size']"."""
    return f"Invalid settings: {'; '.join(map(_explain, errors))}."


def _explain(error: str) -> str:
    found = re.search(r"in config\['(\w+)'", error)
    name = found[1] if found else ""
    return f"{name} {_EXPECTED[name]}" if name in _EXPECTED else error


def unknown_settings(names: Iterable[str], known: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each unknown setting with the most similar known one."""
    known = [*known]
    for name in names:
        if name not in known and not name.startswith("_") and name not in _NOT_SETTINGS:
            yield name, _nearest(name, known)


def stream_map_errors(maps: Mapping[str, Any], schemas: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Yield what is wrong with the names in the setting stream_maps.

    Args:
        maps: The setting.
        schemas: The fields of each stream.
    """
    for name, fields in maps.items():
        if name.startswith("__"):
            continue
        found = matching(schemas, _source(name, fields))
        if not found:
            yield f"unknown stream '{name}' (did you mean '{_nearest(name, schemas)}'?)"
        for field, expression in fields.items() if found and isinstance(fields, Mapping) else ():
            known = {each for stream in found for each in schemas[stream]}
            is_removed = not field.startswith("__") and expression in _REMOVED
            if is_removed and field not in known and not any(field.startswith(f"{each}__") for each in known):
                yield f"unknown field '{field}' of stream '{name}' (did you mean '{_nearest(field, known)}'?)"


def unused_stream_maps(maps: Mapping[str, Any], selected: Sequence[str]) -> Iterator[str]:
    """Yield the names in the setting stream_maps that match no selected stream."""
    for name, fields in maps.items():
        if not name.startswith("__") and not matching(selected, _source(name, fields)):
            yield name


def _source(name: str, fields: Any) -> str:
    return str(fields.get("__source__", name)) if isinstance(fields, Mapping) else name


def _nearest(name: str, known: Iterable[str]) -> str:
    return next(iter(get_close_matches(name, known, n=1, cutoff=0.0)), "")
