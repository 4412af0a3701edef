"""The command `tap-trackly`, also `python -m tap_trackly`."""

from __future__ import annotations

import logging
import sys

from tap_trackly.shutdown import end_on_signal


def main() -> None:
    """Run the command line."""
    # Before the SDK is imported: the import is slow, and a signal during it would print a traceback.
    end_on_signal(logging.getLogger("tap-trackly"))
    if sys.stdout is None:
        # Otherwise the first socket would get file descriptor 1, and records would be written to the API.
        sys.exit("Standard output is closed; redirect it to the target, a file or /dev/null.")

    from tap_trackly.tap import TapTrackly  # noqa: PLC0415

    TapTrackly.main()


if __name__ == "__main__":
    main()
