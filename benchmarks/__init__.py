"""Compares tap-trackly with other tools: what they deliver after faults, and how fast they are."""
