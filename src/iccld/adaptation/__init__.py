"""Adaptation methods, one file each. Methods depend on networks and losses, but not on the training loop or files."""
