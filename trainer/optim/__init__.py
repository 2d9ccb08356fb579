"""How weights are updated: optimizers, and what moves over the epochs."""
