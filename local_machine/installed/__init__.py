"""What is installed of the project: its extras, and who owns the name that it is imported by."""
