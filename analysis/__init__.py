"""From Parquet to tables, figures and a report."""

from trial_records.errors import quiet_while_importing

quiet_while_importing()
