"""What would go wrong here: `python -m sweeps.doctor`."""
