"""The fields of a configuration: what they are, what they may hold, what may be typed for them."""
