"""What people did with a sweep: what they say of it, and how its launches followed one another."""
