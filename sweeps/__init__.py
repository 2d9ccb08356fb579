"""What to run, and seeing it through."""

from trial_records.errors import quiet_while_importing

quiet_while_importing()
