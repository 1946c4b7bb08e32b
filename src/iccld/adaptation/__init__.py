"""Adaptation methods: one file each. They know networks and losses, but no loop, no device and no disk."""
