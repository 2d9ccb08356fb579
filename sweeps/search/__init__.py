"""Searches by Optuna: `python -m sweeps.search`."""
