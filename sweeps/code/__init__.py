"""The code of a launch: captured once, and what its jobs run from."""
