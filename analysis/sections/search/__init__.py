"""A search: what it asked for, what came of it, how sure its best value is."""
