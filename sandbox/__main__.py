"""Serves the sandbox: `python -m sandbox --port 8000 --offers 250 --latency 0.05`."""

from __future__ import annotations

import argparse
import logging

from werkzeug.serving import make_server

from sandbox.account import Account
from sandbox.api import API_KEY, create_app


def main() -> None:
    """Serve an account on loopback until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="A Trackly account on loopback.")
    parser.add_argument("--port", type=int, default=0, help="port to listen on, by default a free one")
    parser.add_argument("--offers", type=int, default=250, help="offers to begin with (default: 250)")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that each answer waits (default: 0)")
    options = parser.parse_args()

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    app = create_app(Account(options.offers), options.latency)
    server = make_server("127.0.0.1", options.port, app, threaded=True)
    print(f"TAP_TRACKLY_API_URL=http://127.0.0.1:{server.server_port}/api/v2")
    print(f"TAP_TRACKLY_API_KEY={API_KEY}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
