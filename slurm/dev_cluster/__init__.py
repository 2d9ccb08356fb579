"""A real Slurm on this machine: `python -m slurm.dev_cluster up`."""
