"""The sandbox as a running server."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from werkzeug.serving import make_server

from sandbox.account import Account
from sandbox.api import create_app


@contextmanager
def running(account: Account, *, port: int = 0, latency: float = 0.0) -> Iterator[str]:
    """Serve an account on loopback while the context is open.

    Args:
        account: What to serve; it may be changed meanwhile.
        port: Where to listen; 0 takes a free port.
        latency: Seconds that each answer waits.

    Yields:
        The address for the tap's setting `api_url`.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", port, create_app(account, latency), threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api/v2"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
