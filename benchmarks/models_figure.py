"""Draws predictions of two models on labeled frames: image, truth, both predictions, and the uncertainty of the second.

    python benchmarks/models_figure.py camvid CAMVID test RUN_SOURCE_ONLY RUN_ICCLD docs/images/pairs.png

The frames are spread evenly over the split and are not chosen by their results.
"""

from __future__ import annotations

import argparse

import torch
from PIL import Image

from iccld.data.datasets import open_dataset
from iccld.inference.segmenter import load_model, predict_image
from iccld.models.settings import PredictSettings
from iccld.reporting.figures import prediction_grid

TITLES = ["image", "truth", "source only", "ICCLD", "uncertainty of ICCLD"]


def main() -> None:
    """Writes the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="name of the data set")
    parser.add_argument("root", help="folder of the data set")
    parser.add_argument("split")
    parser.add_argument("first", help="run of source-only")
    parser.add_argument("second", help="run of ICCLD")
    parser.add_argument("out", help="PNG file")
    parser.add_argument("--count", type=int, default=3, help="number of frames")
    a = parser.parse_args()
    torch.set_num_threads(1)
    first, second = (load_model(run, device="cpu") for run in (a.first, a.second))
    data = open_dataset(a.data, a.root, split=a.split, label_space=second.label_space)
    rows = []
    for number in range(a.count):
        index = (2 * number + 1) * len(data) // (2 * a.count)
        image = data.image(index)
        plain = predict_image(first, image, PredictSettings())
        adapted = predict_image(second, image, PredictSettings(steps=4, draws=4))
        rows.append([image, data.label(index), plain.labels, adapted.labels, adapted.relative_uncertainty])
        print(f"row {number + 1}: {data.file_name(index)}")
    prediction_grid(rows, TITLES, a.out, data.label_space)
    with Image.open(a.out) as picture:
        few = picture.convert("RGB").quantize(256)  # a third of the size
    few.save(a.out, optimize=True)


if __name__ == "__main__":
    main()
