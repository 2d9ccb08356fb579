"""The sweeps of the study, a file each."""
