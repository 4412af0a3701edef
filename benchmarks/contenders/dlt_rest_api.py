"""dlt's REST API source, configured as its documentation shows; runs in a virtual environment of its own."""

from __future__ import annotations

import argparse
from pathlib import Path

import dlt  # type: ignore[import-not-found]
from dlt.sources.rest_api import rest_api_source  # type: ignore[import-not-found]


def main() -> None:
    """Extract the default listing to files, or load it into files."""
    parser = argparse.ArgumentParser()
    parser.add_argument("api_url")
    parser.add_argument("api_key")
    parser.add_argument("work", type=Path, help="folder for what dlt keeps between its steps")
    parser.add_argument("--load", type=Path, help="folder to load into; without it only extract")
    options = parser.parse_args()

    pipeline = dlt.pipeline(
        pipeline_name="trackly",
        pipelines_dir=str(options.work),
        destination=dlt.destinations.filesystem(bucket_url=(options.load or options.work).as_uri()),
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
            "resources": [
                {
                    "name": "offers",
                    "primary_key": "id",
                    "endpoint": {"path": "offers", "params": {"per_page": 100}, "data_selector": "offers"},
                }
            ],
        }
    )
    if options.load:
        pipeline.run(source)
    else:
        pipeline.extract(source)


if __name__ == "__main__":
    main()
