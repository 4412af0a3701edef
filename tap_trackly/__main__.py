"""Makes `python -m tap_trackly` the same as `tap-trackly`."""

from tap_trackly.tap import TapTrackly

TapTrackly.main()
