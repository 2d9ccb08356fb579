"""What is done to the training images, and which of them are trained on."""
