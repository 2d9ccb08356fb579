"""What is known of trials: plans, leases, who still lives, how far each has come."""
