"""What a program writes of its metrics, read while it runs."""
