"""Training: one loop for all methods, exact checkpoints, and tracking of metrics."""
