"""What a report shows of an evaluation beside its scores: calibration, and which images to look at."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8

from iccld.data.datasets import SegmentationDataset
from iccld.inference.evaluation import Measured, evaluate_model
from iccld.inference.segmenter import Segmenter
from iccld.inference.selection import evenly_spaced, unsupervised_scores
from iccld.inference.trust import Trust
from iccld.labels import Protocol
from iccld.metrics import ConfusionMatrix, Scores, scores_from_confusion

Role = Literal["best", "worst", "random"]


@dataclass(frozen=True)
class Choice:
    """An image to be looked at.

    Attributes:
        index: its place in the data set.
        role: why it was chosen.
        miou: its own mIoU in percent; None where nothing was measured.
    """

    index: int
    role: Role
    miou: float | None


class Review:
    """Observes an evaluation (see ``iccld.inference.evaluation.evaluate_model``).

    Args:
        protocol: the classes that are averaged.
    """

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.trust = Trust()
        self.mious: dict[int, float] = {}

    def __call__(self, measured: Measured) -> None:
        """Adds an image."""
        self.trust(measured)
        confusion = ConfusionMatrix(len(self.protocol.space))
        confusion.update(torch.from_numpy(measured.answer), torch.from_numpy(measured.truth))
        self.mious[measured.index] = scores_from_confusion(confusion, self.protocol).miou

    def choose(self, *, each: int = 3, seed: int = 0) -> list[Choice]:
        """Chooses some random images, the same for every model, and of the others the best and worst by their own mIoU.

        Args:
            each: of every kind, where there are enough: never more than a third of the images.
            seed: of the random ones.
        """
        counted = [i for i in sorted(self.mious) if not math.isnan(self.mious[i])]
        num = min(each, max(1, len(counted) // 3))
        # Before the others and by the images alone: all models that are measured on them show the same ones.
        drawn = np.random.default_rng(seed).permutation(counted)[: num if len(counted) > 2 else 0].tolist()
        order = sorted((i for i in counted if i not in drawn), key=lambda i: -self.mious[i])
        best, worst = order[:num], order[num:][::-1][:num]
        kinds: tuple[tuple[Role, list[int]], ...] = (("best", best), ("worst", worst), ("random", drawn))
        return [Choice(int(index), role, self.mious[index]) for role, found in kinds for index in found]


def choose_unmeasured(num_images: int, *, count: int = 6, seed: int = 0) -> list[Choice]:
    """Chooses random images where there are no labels to tell good from bad."""
    drawn = np.random.default_rng(seed).permutation(num_images)[:count]
    return [Choice(int(index), "random", None) for index in sorted(drawn)]


class _SomeImages:
    """A data set of some images of another, at even distances, the first and the last among them."""

    def __init__(self, dataset: SegmentationDataset, count: int) -> None:
        self._dataset, self.name = dataset, dataset.name
        self.label_space, self.has_labels = dataset.label_space, dataset.has_labels
        self._indices = evenly_spaced(len(dataset), count)

    def __len__(self) -> int:
        return len(self._indices)

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        return self._dataset.image(self._indices[index])

    def label(self, index: int) -> UInt8[np.ndarray, "h w"]:
        return self._dataset.label(self._indices[index])

    def file_name(self, index: int) -> str:
        return self._dataset.file_name(self._indices[index])


class RunEvaluation:
    """Measures teacher and student of a run, and keeps what a report shows of the last time.

    Beside the scores it gives what needs no labels (``unsupervised_scores``): for choosing a checkpoint,
    scores by target labels must not be used.

    Args:
        val: labeled images.
        protocol: what is counted and averaged.
    """

    def __init__(self, val: SegmentationDataset, protocol: Protocol) -> None:
        self.val, self.protocol = val, protocol
        self.last: tuple[Scores, Review] | None = None

    def of_some(self, count: int) -> RunEvaluation:
        """The same of so many images, at even distances; of all for 0 or where there are no more."""
        if not 0 < count < len(self.val):
            return self
        return RunEvaluation(_SomeImages(self.val, count), self.protocol)

    def expected_seconds(self, teacher: Segmenter, student: Segmenter) -> float:
        """What a whole evaluation will take, from two of one image: the first one prepares the kernels."""
        one = RunEvaluation(_SomeImages(self.val, 1), self.protocol)
        one(teacher, student)
        begun = time.monotonic()
        one(teacher, student)
        return (time.monotonic() - begun) * len(self.val)

    def __call__(self, teacher: Segmenter, student: Segmenter) -> dict[str, float]:
        """Gives the figures to log."""
        review = Review(self.protocol)
        scores = evaluate_model(teacher, self.val, self.protocol, observe=review)
        self.last = scores, review
        figures = {"val/miou": scores.miou, "val/pixel_accuracy": scores.pixel_accuracy}
        figures |= {f"val/iou/{k}": v for k, v in scores.iou.items() if v is not None}
        for name, value in unsupervised_scores(teacher, student, self.val).items():
            figures[f"val/{name}"] = value
        return figures
