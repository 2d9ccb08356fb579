"""What a definition file says: sweeps, their spaces, and the trials they expand to."""
