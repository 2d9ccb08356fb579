"""What launches answer, as data, and what a reader sees of it first."""
