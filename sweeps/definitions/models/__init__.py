"""Which architecture, and the whole recipe around it."""
