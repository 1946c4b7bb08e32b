"""Networks: image coders, label coder, denoiser, discriminator and the model that joins them."""
