"""Training: the loop of all methods, checkpoints from which a run resumes exactly, and tracking of metrics."""
