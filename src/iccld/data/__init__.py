"""Data sets, label maps and images on disk, and streams of training samples.

An invalid file, folder or setting raises ``iccld.errors.InputError`` with a message of one line. A docstring lists
this error only if the cause is not obvious.
"""
