"""Networks: image coders, label coder, denoiser, discriminators, and the segmentation model built from them."""
