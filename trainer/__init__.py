"""What one trial does: configuration, data, models, training and its records."""

from trial_records.terminal import quiet_while_importing

quiet_while_importing()
