"""Inference with a trained model: evaluation on data sets, segmentation of images and videos, and export."""
