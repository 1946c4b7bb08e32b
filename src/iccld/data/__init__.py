"""Data sets, label maps and images on disk, and the streams of training samples made from them."""
