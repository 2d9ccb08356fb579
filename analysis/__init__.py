"""From Parquet to tables, figures and a report."""

from trainer.errors import quiet_while_importing

quiet_while_importing()
