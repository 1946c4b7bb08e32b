"""Using a trained model: measuring it on data sets and predicting files."""
