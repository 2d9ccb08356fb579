"""What a training step costs, and how close a device comes to its best."""
