"""Detecting what the files of a folder are, for ``iccld data init`` and ``iccld data check``."""
