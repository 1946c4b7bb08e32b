"""Data sets, label maps and images on disk, and streams of training samples.

Functions raise ``iccld.errors.InputError`` for an invalid file, folder or setting. The message is one line. A docstring
lists this error only if the cause is not obvious.
"""
