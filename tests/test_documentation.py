"""README.md, meltano.yml and the tap are consistent."""

from __future__ import annotations

import importlib
import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
import yaml

from tap_trackly.tap import TapTrackly
from tests.tap import STREAMS

PROJECT = Path(__file__).parent.parent
README = (PROJECT / "README.md").read_text()
MELTANO = yaml.safe_load((PROJECT / "meltano.yml").read_text())
# The lines that name a stream.
PLACES = {
    "README.md": r"\| `{name}` \| `GET /v2{path}` \| `{keys}` \| {method} \|",
    "docs/pypi.md": r"Streams: .*`{name}`",
    "docs/many-accounts.md": r" +{name}: \{{account:",
    "hub/tap-trackly.yml": r"description: .*\b{name}\b",
    "pyproject.toml": r"description = .*\b{name}\b",
    "tap_trackly/tap.py": r' +"""Reads a Trackly SMS account: .*\b{name}\b',
}
KINDS = {
    "string": "string",
    "integer": "integer",
    "number": "string",  # Meltano 4.4 rejects decimals from the environment; the tap parses the string
    "boolean": "boolean",
    "array": "array",
    "object": "object",
}


def plugins() -> dict[str, dict[str, Any]]:
    return {plugin["name"]: plugin for kind in MELTANO["plugins"].values() for plugin in kind}


def own_settings() -> dict[str, Any]:
    settings = TapTrackly.config_jsonschema["properties"]
    return {name: settings[name] for name in list(settings)[: list(settings).index("user_agent") + 1]}


def kind(setting: dict[str, Any]) -> str:
    if setting.get("format") == "date-time":
        return "date_iso8601"
    return next(KINDS[name] for name in setting["type"] if name != "null")


def test_settings_in_meltano_yml() -> None:
    TapTrackly.append_builtin_config(TapTrackly.config_jsonschema)
    settings = dict(TapTrackly.config_jsonschema["properties"])
    for setting in plugins()["tap-trackly"]["settings"]:
        known = settings.pop(setting["name"])
        assert setting["kind"] == kind(known)
        assert setting["description"] == known["description"]
        assert setting["label"] == known["title"]
        assert setting.get("sensitive", False) == known.get("secret", False)
    assert settings == {}


def test_capabilities_in_meltano_yml() -> None:
    assert plugins()["tap-trackly"]["capabilities"] == sorted(item.value for item in TapTrackly.capabilities)


@pytest.mark.parametrize("name", plugins())
def test_plugins_are_pinned(name: str) -> None:
    plugin = plugins()[name]
    package, _, constraints = plugin["pip_url"].partition(" -c ")
    pins = (PROJECT / constraints).read_text().splitlines()
    assert plugin["namespace"] == name.replace("-", "_")
    assert package == "-e ." or package in pins
    assert all("==" in pin for pin in pins)


def test_settings_in_the_readme() -> None:
    for name, setting in own_settings().items():
        (row,) = re.findall(rf"^\| `{name}` \|.*$", README, re.MULTILINE)
        assert setting["description"] in row
        default = setting.get("default")
        if default is not None:
            shown = default if isinstance(default, str) else json.dumps(default)
            assert f"`{shown}`" in row or name == "user_agent"


@pytest.mark.parametrize("file", PLACES)
@pytest.mark.parametrize("name", STREAMS)
def test_streams(name: str, file: str) -> None:
    stream = TapTrackly(validate_config=False).streams[name]
    if file == "docs/many-accounts.md" and not stream.selected_by_default:
        return
    key = stream.replication_key
    line = PLACES[file].format(
        name=name,
        path=stream.path,
        keys=", ".join(stream.primary_keys),
        method=f"INCREMENTAL on `{key}`" if key else "FULL_TABLE",
    )
    found = re.search(f"^{line}", (PROJECT / file).read_text(), re.MULTILINE)
    assert found, f"{file} lacks the stream {name}: no line matches ^{line}"


@pytest.mark.source
def test_dbt_sources() -> None:
    dbt: Any = importlib.import_module("examples.dbt.write_sources")
    is_current = dbt.SOURCES.read_text(encoding="utf-8") == dbt.sources()
    assert is_current, f"run `.venv/bin/python -m examples.dbt.write_sources`, which writes {dbt.SOURCES}"


@pytest.mark.source
@pytest.mark.parametrize(
    "account,load,words",
    [
        ("50k-20ms", "first load", "First load of 50,000 offers"),
        ("10k-100ms", "hourly load", "Hourly load of 10,000 offers"),
    ],
)
def test_figures_in_the_readme(account: str, load: str, words: str) -> None:
    results = json.loads((PROJECT / "benchmarks" / "results" / "end_to_end.json").read_text())
    contenders = results[account][load]["contenders"]
    names = "tap-trackly, target-postgres", "SDK template, target-postgres", "dlt rest_api"
    medians = [f"{statistics.median(contenders[name]['wall']):.1f}" for name in names]
    assert f"{words}: {', '.join(medians)}." in README


def test_no_package_registry_is_named() -> None:
    for file in [*(PROJECT / "requirements").iterdir(), PROJECT / "pyproject.toml"]:
        assert "://" not in file.read_text().replace("https://github.com", "")


def test_version_in_the_changelog() -> None:
    version = re.search(r'^version = "(.+)"$', (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert f"## {version[1]}" in (PROJECT / "CHANGELOG.md").read_text()
