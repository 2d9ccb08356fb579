"""GPUs that several workers share."""
