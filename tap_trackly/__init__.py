"""Singer tap for the offers of a Trackly SMS account."""
