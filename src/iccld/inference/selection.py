"""Figures for choosing a checkpoint without target labels."""

from __future__ import annotations

import numpy as np

from iccld.data.datasets import SegmentationDataset
from iccld.inference.segmenter import Segmenter
from iccld.progress import track


def unsupervised_scores(
    teacher: Segmenter, student: Segmenter, dataset: SegmentationDataset, *, num_images: int = 32
) -> dict[str, float]:
    """Measures what can be seen of a model on unlabeled images.

    Args:
        teacher: the model that would be kept.
        student: the one it averages.
        dataset: its labels are not read.
        num_images: taken at even distances from the data set.

    Returns:
        ``entropy``: mean normalized entropy of the teacher, lower is surer; ``agreement``: share of pixels,
        in [0, 1], that teacher and student label alike, higher is steadier.
    """
    indices = np.unique(np.linspace(0, len(dataset) - 1, min(num_images, len(dataset))).round().astype(int))
    entropies, agreements = [], []
    for index in track(indices, len(indices), "Comparing with the student"):
        image = dataset.image(int(index))
        answer, other = teacher.predict(image), student.predict(image)
        entropies.append(float(answer.relative_uncertainty.mean()))
        agreements.append(float((answer.labels == other.labels).mean()))
    return {"entropy": float(np.mean(entropies)), "agreement": float(np.mean(agreements))}
