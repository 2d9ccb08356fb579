"""What a cluster is."""

from trial_records.terminal import quiet_while_importing

quiet_while_importing()
