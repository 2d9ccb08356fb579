"""Studies, stage after stage: `python -m sweeps.study`."""
