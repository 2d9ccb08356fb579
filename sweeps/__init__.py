"""What to run, and seeing it through."""
