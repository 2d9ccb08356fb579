"""What one trial does: configuration, data, models, training and its records."""

# Under its earlier name, for what still says `from trainer import origin`.
from local_machine import origin as origin
from local_machine.terminal import quiet_while_importing

quiet_while_importing()
