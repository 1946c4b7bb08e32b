"""The bench: trains methods × seeds × tasks of a plan in worker processes, with results as JSON files and tables."""
