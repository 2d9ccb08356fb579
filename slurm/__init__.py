"""What a cluster is."""
