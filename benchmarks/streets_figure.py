"""Draws predictions of the built-in model on real CamVid frames.

    python benchmarks/streets_figure.py CAMVID docs/images/streets.png

The frames are 11, 49 and 86 of the validation split, which the model has not seen.
"""

from __future__ import annotations

import argparse

import torch
from PIL import Image

from iccld.data.datasets import open_dataset
from iccld.inference.mapping import load_mapped
from iccld.inference.segmenter import predict_image
from iccld.models.settings import PredictSettings
from iccld.reporting.figures import prediction_grid

FRAMES = (11, 49, 86)


def main() -> None:
    """Writes the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", help="folder of CamVid")
    parser.add_argument("out", help="PNG file")
    a = parser.parse_args()
    torch.set_num_threads(1)
    data, model = (
        open_dataset("camvid", a.root, split="val"),
        load_mapped("streets", "camvid11", device="cpu"),
    )
    settings, rows = PredictSettings(steps=4, draws=4), []
    for frame in FRAMES:
        image = data.image(frame)
        prediction = predict_image(model, image, settings)
        rows.append([image, data.label(frame), prediction.labels, prediction.relative_uncertainty])
    prediction_grid(rows, ["image", "truth", "streets", "uncertainty"], a.out, data.label_space)
    with Image.open(a.out) as picture:
        few = picture.convert("RGB").quantize(256)  # a third of the size
    few.save(a.out, optimize=True)


if __name__ == "__main__":
    main()
