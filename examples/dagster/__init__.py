"""A Dagster project that loads several accounts."""
