"""Commands of the command line, with one module per command."""
