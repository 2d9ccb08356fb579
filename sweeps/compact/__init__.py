"""Finished trials in a few files: `python -m sweeps.compact`."""
