"""Training: one loop for all methods, exact checkpoints, tracking."""
