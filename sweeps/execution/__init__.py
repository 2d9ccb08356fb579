"""Running trials: on this machine or as Slurm jobs."""
