"""Finished trials, run again and compared with their records: `python -m sweeps.verify`."""
