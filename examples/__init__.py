"""Examples: what runs the tap, and what reads its tables."""
