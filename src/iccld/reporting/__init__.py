"""Showing results: tables of scores and figures."""
