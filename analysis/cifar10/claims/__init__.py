"""What the reference study says that trials can answer, and what they answer."""
