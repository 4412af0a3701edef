"""dlt's REST API source, configured as in its documentation; runs in a separate virtual environment."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import dlt  # type: ignore[import-not-found]
from dlt.sources.rest_api import rest_api_source  # type: ignore[import-not-found]


def main() -> None:
    """Extract the default listing to files, load it into JSON files, or merge changed offers into PostgreSQL."""
    parser = argparse.ArgumentParser()
    parser.add_argument("api_url")
    parser.add_argument("api_key")
    parser.add_argument("work", type=Path, help="working folder of dlt")
    parser.add_argument("--load", type=Path, help="folder to load into (default: only extract)")
    parser.add_argument("--database", help="URL of a PostgreSQL database to load into")
    options = parser.parse_args()

    offers: dict[str, Any] = {
        "name": "offers",
        "primary_key": "id",
        "endpoint": {"path": "offers", "params": {"per_page": 100}, "data_selector": "offers"},
    }
    destination = dlt.destinations.filesystem(bucket_url=(options.load or options.work).as_uri())
    if options.database:
        offers["write_disposition"] = "merge"
        offers["endpoint"]["incremental"] = {"cursor_path": "updated_at", "initial_value": "1970-01-01T00:00:00Z"}
        # dlt requires a host and a password, also for a Unix socket.
        destination = dlt.destinations.postgres(options.database.replace(":@/", ":none@localhost/"))
    pipeline = dlt.pipeline(
        pipeline_name="trackly",
        pipelines_dir=str(options.work),
        destination=destination,
        dataset_name="trackly",
    )
    source = rest_api_source(
        {
            "client": {
                "base_url": options.api_url,
                "auth": {"type": "api_key", "name": "X-Api-Key", "api_key": options.api_key, "location": "header"},
                "paginator": {
                    "type": "page_number",
                    "base_page": 1,
                    "page_param": "page",
                    "total_path": "pagination.total_pages",
                },
            },
            "resources": [offers],
        }
    )
    if options.load or options.database:
        pipeline.run(source)
    else:
        pipeline.extract(source)


if __name__ == "__main__":
    main()
