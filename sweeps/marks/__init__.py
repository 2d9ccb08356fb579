"""Notes, tags and exclusions: what people say of sweeps and trials, by `note`, `tag`, `exclude`."""
