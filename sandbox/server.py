"""Serves the API of the sandbox account."""

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
    """Serve an account on 127.0.0.1 while the context is open.

    Args:
        account: The account to serve; it may be changed meanwhile.
        port: The port to listen on; 0 for a free port.
        latency: The delay of each response, in seconds.

    Yields:
        The URL for the setting `api_url` of the tap.
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
