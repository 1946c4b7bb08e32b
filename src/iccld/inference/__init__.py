"""Inference with a trained model: evaluation on data sets, prediction of files, and export."""
