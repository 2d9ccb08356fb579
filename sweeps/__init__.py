"""What to run, and seeing it through."""

from trainer.errors import quiet_while_importing

quiet_while_importing()
