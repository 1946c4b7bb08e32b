"""The report as one HTML file: markup, charts, and one small module for each section."""
