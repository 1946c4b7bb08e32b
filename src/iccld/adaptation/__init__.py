"""Adaptation methods. They depend on networks and losses, but not on the training loop."""
