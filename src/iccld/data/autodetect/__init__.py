"""Detection of the data set in a folder, for ``iccld data init`` and ``iccld data check``."""
