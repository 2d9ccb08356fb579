"""What a cluster is."""

from slurm.terminal import quiet_while_importing

quiet_while_importing()
