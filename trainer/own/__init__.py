"""A person's own loss and metrics, and the trial of all own code before a launch."""
