"""Any program as a task: its command line, its metrics, how it is stopped and how it ended."""
