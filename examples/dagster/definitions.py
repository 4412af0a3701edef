"""One asset for each account, which a schedule loads every hour: `dagster dev -f definitions.py`."""

import os
import subprocess
from pathlib import Path

import yaml
from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    AssetSelection,
    Backoff,
    DefaultScheduleStatus,
    Definitions,
    RetryPolicy,
    ScheduleDefinition,
    asset,
    define_asset_job,
)

ACCOUNTS = yaml.safe_load(Path(__file__).with_name("accounts.yml").read_text(encoding="utf-8"))


def account(name: str) -> AssetsDefinition:
    """Return the asset that loads an account."""

    # With `default_limit: 1` in dagster.yaml, the pool keeps two runs of the same account apart.
    @asset(
        name=name,
        key_prefix="trackly",
        pool=f"trackly_{name}",
        retry_policy=RetryPolicy(max_retries=2, delay=10, backoff=Backoff.EXPONENTIAL),
        description=f"The Trackly account {name} in the schema {name}.",
    )
    def load(context: AssetExecutionContext) -> None:
        command = ["meltano", "run", f"tap-trackly--{name}", "target-postgres"]
        with subprocess.Popen(
            command,
            cwd=os.environ["MELTANO_PROJECT_ROOT"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        ) as process:
            for line in process.stdout or ():
                context.log.info(line.rstrip())
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)

    return load


hourly = define_asset_job("trackly_hourly", AssetSelection.key_prefixes("trackly"))
definitions = Definitions(
    assets=[account(name) for name in ACCOUNTS],
    jobs=[hourly],
    schedules=[ScheduleDefinition(job=hourly, cron_schedule="5 * * * *", default_status=DefaultScheduleStatus.RUNNING)],
)
