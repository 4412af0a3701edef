"""The command `tap-trackly`, also `python -m tap_trackly`."""

import sys


def main() -> None:
    """Run the command line."""
    if sys.stdout is None:
        # Otherwise the first socket would get file descriptor 1, and records would be written to the API.
        sys.exit("Standard output is closed; redirect it to the target, a file or /dev/null.")

    from tap_trackly.tap import TapTrackly  # noqa: PLC0415

    TapTrackly.main()


if __name__ == "__main__":
    main()
