"""What people did with a sweep: their marks, and one launch after the other."""
