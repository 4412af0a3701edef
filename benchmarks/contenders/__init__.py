"""The programs that are compared; each runs in a separate process."""
