"""Presentation of results: tables of scores, figures, HTML reports and model cards."""
