"""The bench: methods × seeds × tasks from a plan, run in worker processes, kept as JSON and shown as tables."""
