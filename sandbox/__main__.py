"""Serves a sandbox account: `python -m sandbox --port 8000 --offers 250 --latency 0.05`."""

from __future__ import annotations

import argparse
import signal

from sandbox.account import Account
from sandbox.api import API_KEY
from sandbox.server import running


def main() -> None:
    """Serve an account until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="Serve a sandbox Trackly account.")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free port)")
    parser.add_argument("--offers", type=int, default=250, help="initial number of offers (default: 250)")
    parser.add_argument("--contacts", type=int, default=300, help="initial number of contacts (default: 300)")
    parser.add_argument("--latency", type=float, default=0.0, help="delay of each response in seconds (default: 0)")
    options = parser.parse_args()

    stops = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    account = Account(options.offers, options.contacts)
    with running(account, port=options.port, latency=options.latency) as url:
        print(f"TAP_TRACKLY_API_URL={url}")
        print(f"TAP_TRACKLY_API_KEY={API_KEY}")
        print("export TAP_TRACKLY_API_URL TAP_TRACKLY_API_KEY")
        print("# Paste these lines into another shell, or put the first two into .env. Stop with Ctrl+C.", flush=True)
        signal.sigwait(stops)


if __name__ == "__main__":
    main()
