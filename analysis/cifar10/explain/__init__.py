"""Why a network of the trainer decided as it did: where it looked, and what it got wrong."""
