"""What a sweep costs before it runs."""
