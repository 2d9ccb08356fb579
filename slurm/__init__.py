"""What a cluster is."""

from local_machine.terminal import quiet_while_importing

quiet_while_importing()
