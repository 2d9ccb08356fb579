"""The machine that a process runs on: its files, processes, terminal and secrets. The ground floor,
which all import and which knows none of them."""
