"""What tap-trackly delivers when things go wrong, and how fast it is when they do not."""
