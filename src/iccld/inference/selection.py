"""Figures for choosing a checkpoint without target labels."""

from __future__ import annotations

import numpy as np

from iccld.data.datasets import SegmentationDataset
from iccld.inference.segmenter import Segmenter
from iccld.progress import track


def evenly_spaced(length: int, count: int) -> list[int]:
    """Indices at even distances, the first and, of several, the last among them."""
    indices: list[int] = np.unique(np.linspace(0, length - 1, count).round().astype(int)).tolist()
    return indices


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
    indices = evenly_spaced(len(dataset), min(num_images, len(dataset)))
    entropies, agreements = [], []
    for index in track(indices, len(indices), "Comparing with the student"):
        image = dataset.image(index)
        answer, other = teacher.predict(image), student.predict(image)
        entropies.append(float(answer.relative_uncertainty.mean()))
        agreements.append(float((answer.labels == other.labels).mean()))
    return {"entropy": float(np.mean(entropies)), "agreement": float(np.mean(agreements))}
