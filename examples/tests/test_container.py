"""The steps of the Dockerfile, in an empty folder, and runs of the entrypoint by an ordinary user."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from sandbox.account import Account
from sandbox.api import API_KEY
from sandbox.server import running
from tests.project import HOME
from tests.tap import environment

EXAMPLES = HOME / "examples"
USER = 1000
# An ordinary user cannot run a Python that is installed in the home of root.
PYTHON = "/usr/bin:/usr/local/bin"
AS_USER: dict[str, Any] = {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}


@dataclass
class Image:
    """What a Dockerfile makes, with its absolute paths below a folder."""

    root: Path
    variables: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    def inside(self, text: str) -> str:
        """Return a text with the paths of the image below the folder."""
        return re.sub(r"(?<![\w/])/(?=(project|opt|tmp)\b)", f"{self.root}/", text)

    def build(self, file: Path) -> None:
        """Carry out the steps of a Dockerfile."""
        (self.root / "opt").mkdir()
        (self.root / "tmp").mkdir(mode=0o777)
        (self.root / "tmp").chmod(0o777)
        (self.root / "project").mkdir()
        for line in file.read_text(encoding="utf-8").splitlines():
            instruction, _, rest = line.partition(" ")
            if instruction == "RUN":
                self.run(["/bin/sh", "-ec", self.inside(rest)], self.variables)
            elif instruction == "COPY":
                self.copy(*shlex.split(rest))
            elif instruction == "ENV":
                name, _, value = rest.partition("=")
                self.variables[name] = os.path.expandvars(self.inside(value))
            elif instruction and not instruction.startswith("#"):
                self.settings[instruction] = rest

    def copy(self, *names: str) -> None:
        """Copy files of the repository, as COPY does."""
        *sources, target = names
        for name in sources:
            place = Path(self.inside(target)) if target.startswith("/") else self.root / "project" / target
            if name.endswith("/"):
                shutil.copytree(HOME / name, place, dirs_exist_ok=True)
            else:
                if target.endswith("/"):
                    place.mkdir(parents=True, exist_ok=True)
                shutil.copy(HOME / name, place)

    def run(self, command: list[str], variables: dict[str, str], **how: Any) -> str:
        """Run a command in the image, and return its output."""
        finished: subprocess.CompletedProcess[str] = subprocess.run(
            command,
            cwd=self.root / "project",
            env={**environment(PATH=f"{PYTHON}:{os.environ['PATH']}"), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
            **how,
        )
        assert finished.returncode == 0, finished.stdout
        return finished.stdout


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    # pytest's own folders are private.
    with tempfile.TemporaryDirectory(prefix="trackly-image-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        image = Image(root)
        image.build(EXAMPLES / "container" / "Dockerfile")
        yield image


@pytest.fixture
def open_address(address: str) -> Iterator[str]:
    """The URL of the database, which other users may reach, too."""
    folder = Path(address.partition("host=")[2])
    folder.chmod(0o711)
    yield address
    folder.chmod(0o700)


def arguments_of(manifest: str, account: str) -> tuple[list[str], dict[str, str]]:
    """Return the arguments and variables of the container in a manifest."""
    text = (EXAMPLES / "kubernetes" / manifest).read_text().replace("${ACCOUNT}", account).replace("${MINUTE}", "5")
    (container,) = yaml.safe_load(text)["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    return container["args"], {entry["name"]: entry["value"] for entry in container.get("env", [])}


def test_jobs_of_an_ordinary_user(image: Image, open_address: str, database: psycopg.Connection) -> None:
    state = image.root / "state"
    state.mkdir(exist_ok=True)
    state.chmod(0o777)
    (entrypoint,) = json.loads(image.settings["ENTRYPOINT"])
    one, _ = arguments_of("one-account.yaml", "")
    assert json.loads(image.settings["CMD"]) == one
    assert image.settings["USER"] == f"{USER}:{USER}"
    account = Account(offers=12)
    with running(account) as url:
        variables = {
            **image.variables,
            "PATH": f"{image.root}/opt/meltano/bin:{PYTHON}",
            "MELTANO_STATE_BACKEND_URI": f"file://{state}",
            "TAP_TRACKLY_API_KEY": API_KEY,
            "TAP_TRACKLY_API_URL": url,
            "TARGET_POSTGRES_SQLALCHEMY_URL": open_address,
        }

        def run(manifest: str, name: str = "") -> str:
            arguments, extra = arguments_of(manifest, name)
            shutil.rmtree(image.root / "tmp" / "meltano", ignore_errors=True)  # /tmp is empty in each run
            return image.run([image.inside(entrypoint), *arguments], {**variables, **extra}, **AS_USER)

        before = set((image.root / "project").rglob("*"))
        assert "offers: done, 12 records read, 12 emitted" in run("one-account.yaml")
        assert "offers: done, 12 records read, 12 emitted" not in run("one-account.yaml"), "the state was kept"
        run("account-template.yaml", "acme")
        run("account-template.yaml", "globex")
        assert set((image.root / "project").rglob("*")) == before
    for schema in "trackly", "acme", "globex":
        rows = database.execute(f"SELECT count(*), sum(payout) FROM {schema}.offers".encode()).fetchall()  # noqa: S608
        assert rows == [(12, sum(offer["payout"] for offer in account.offers.values()))]
    assert {folder.name for folder in state.iterdir()} == {
        "dev:tap-trackly-to-target-postgres",
        "dev:tap-trackly-to-target-postgres:acme",
        "dev:tap-trackly-to-target-postgres:globex",
    }
