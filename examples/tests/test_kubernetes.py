"""The manifests are valid against the schemas of Kubernetes, for one account and for many."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.project import HOME

EXAMPLE = HOME / "examples" / "kubernetes"
VERSION = "1.32"


def many(*accounts: str) -> list[Any]:
    """Return the manifests of accounts."""
    listed = "".join(f"{account}\n" for account in accounts)
    printed = subprocess.run(
        [EXAMPLE / "many-accounts"], input=listed, capture_output=True, encoding="utf-8", check=True
    )
    return manifests(printed.stdout)


def manifests(text: str) -> list[Any]:
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


def read(file: Path) -> list[Any]:
    return manifests(file.read_text(encoding="utf-8"))


def test_list_of_accounts_in_any_form() -> None:
    assert many("acme\r", "", "globex") == many("acme", "globex")


def test_name_that_yaml_takes_for_a_number() -> None:
    (job,) = many("1234")
    kubernetes_validate.validate(job, VERSION, strict=True)


@pytest.mark.parametrize("file", [EXAMPLE / "secret.yaml", EXAMPLE / "one-account.yaml"], ids=lambda file: file.name)
def test_manifests_are_valid(file: Path) -> None:
    for manifest in read(file):
        kubernetes_validate.validate(manifest, VERSION, strict=True)


def test_invalid_manifests_are_found() -> None:
    (job,) = read(EXAMPLE / "one-account.yaml")
    job["spec"]["concurencyPolicy"] = job["spec"].pop("concurrencyPolicy")
    with pytest.raises(kubernetes_validate.ValidationError, match="concurencyPolicy"):
        kubernetes_validate.validate(job, VERSION, strict=True)


def test_one_job_an_account() -> None:
    accounts = (EXAMPLE / "accounts.txt").read_text().split()
    jobs = many(*accounts)
    (single,) = read(EXAMPLE / "one-account.yaml")
    assert [job["metadata"]["name"] for job in jobs] == [f"trackly-{account}" for account in accounts]
    assert len({job["spec"]["schedule"] for job in jobs}) == len(accounts)
    for account, job in zip(accounts, jobs, strict=True):
        kubernetes_validate.validate(job, VERSION, strict=True)
        assert job["spec"]["concurrencyPolicy"] == "Forbid"
        (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        assert {"secretRef": {"name": f"trackly-key-{account}"}} in container["envFrom"]
        assert container["args"][1:3] == ["--state-id-suffix", account]
        assert "$" not in yaml.safe_dump(job)
        (other,) = single["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        assert container["securityContext"] == other["securityContext"]


def test_secrets_of_the_jobs() -> None:
    secrets = {secret["metadata"]["name"]: secret["stringData"] for secret in read(EXAMPLE / "secret.yaml")}
    (job,) = read(EXAMPLE / "one-account.yaml")
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert [source["secretRef"]["name"] for source in container["envFrom"]] == list(secrets)
