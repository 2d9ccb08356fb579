"""Where trials run: as Slurm jobs, in worker processes, in this process; by one protocol."""
