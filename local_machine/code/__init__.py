"""The code that a process runs: what it is, and the snapshot that it may be of."""
