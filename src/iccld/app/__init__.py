"""The page in the browser: a model tried on one's own images and clips. Only ``page`` and ``server`` know Gradio."""
