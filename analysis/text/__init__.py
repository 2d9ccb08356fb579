"""Figures and words as text, of whatever they are."""
