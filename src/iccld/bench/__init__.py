"""The bench: trains every method of a plan on every task with every seed, and writes results as JSON and tables."""
