"""From Parquet to tables, figures and a report."""

from local_machine.errors import quiet_while_importing

quiet_while_importing()
