"""What one trial does: configuration, data, models, training and its records."""
