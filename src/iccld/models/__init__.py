"""Networks: image coders, label coder, denoiser, discriminators, and the segmentation model built from them.

Functions raise ``iccld.errors.InputError`` with a one-line message for input, files and settings that cannot be used.
"""
