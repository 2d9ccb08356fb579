"""What is done to the training images."""
