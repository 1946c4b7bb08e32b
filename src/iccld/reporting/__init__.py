"""Showing results: tables of scores, figures, the report as an HTML page, and the card of a model."""
