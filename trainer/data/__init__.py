"""Data sets: where images come from, how they are cached and split."""
