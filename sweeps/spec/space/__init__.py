"""Spaces: what a search may try."""
