"""From Parquet to tables, figures and a report."""
