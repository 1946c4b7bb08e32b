"""Data sets, label maps and images on disk, and the streams of training samples made from them.

Whatever is wrong with a file, folder or setting that the user gave is an ``iccld.errors.InputError`` in one line. The
docstrings name these errors only where the cause is not plain from what a function reads.
"""
