"""What one trial does: configuration, data, models, training and its records."""

from local_machine.terminal import quiet_while_importing

quiet_while_importing()
