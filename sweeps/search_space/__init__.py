"""Spaces of searches: ranges, branches of choices, functions of an Optuna trial, constraints."""
