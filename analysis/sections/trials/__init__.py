"""Trials: what became of each that was planned, and how far those have come that are not done."""
