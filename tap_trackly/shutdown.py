"""The end of a run by a signal. Imports little, so that it works before the SDK is imported."""

from __future__ import annotations

import logging
import os
import signal
from threading import Lock, Thread

# Held while lines are written. A thread that holds it can end the process without cutting a line.
WRITING = Lock()
_LONGEST_WAIT = 2.0  # seconds to wait for a blocked log or target after a signal
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def end_on_signal(logger: logging.Logger) -> None:
    """Let SIGINT, SIGTERM and SIGHUP end the process with exit status 130, 143 and 129.

    The SDK's handler would write a STATE, perhaps into the middle of another message, and exit with 0.
    A signal handler also could not run while a slow target blocks a write, so a thread waits for the signal.
    """
    # Signals that are ignored at the start, as with nohup, stay ignored.
    signals = {number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    Thread(target=_wait_for_signal, args=(signals, logger), daemon=True).start()


def _wait_for_signal(signals: set[signal.Signals], logger: logging.Logger) -> None:
    number = signal.sigwait(signals)
    # In a thread, because the log may block, like the target.
    words = ("Stopped by %s. Bookmark not advanced.", signal.Signals(number).name)
    goodbye = Thread(target=logger.warning, args=words, daemon=True)
    goodbye.start()
    goodbye.join(_LONGEST_WAIT)
    WRITING.acquire(timeout=_LONGEST_WAIT)
    os._exit(128 + number)
