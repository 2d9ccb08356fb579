"""Figures, one file a section of the report."""
