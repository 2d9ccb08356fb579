"""Pure functions: intervals, tests, tables, diagnostics."""
