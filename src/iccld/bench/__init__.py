"""The bench: trains the variants of a plan on its tasks with several seeds, and writes results as JSON and tables."""
