"""Networks: image coders, label coder, denoiser, discriminators and the model that combines them."""
