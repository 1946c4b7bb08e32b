"""Adaptation methods, one file each. They depend on networks and losses, but not on training loop, device or files."""
