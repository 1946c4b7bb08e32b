"""Networks: image coders, label coder, denoiser, discriminators, and the segmentation model built from them.

Functions raise ``iccld.errors.InputError`` for unusable input, files and settings, with a message of one line.
"""
