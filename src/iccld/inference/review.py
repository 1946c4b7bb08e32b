"""What is measured beside the scores: calibration, images to look at, and figures of a run without labels."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np
import torch

from iccld.data.datasets import SegmentationDataset
from iccld.inference.evaluation import Measured, evaluate_model
from iccld.inference.segmenter import PredictSettings, Segmenter
from iccld.labels import IGNORE, Protocol
from iccld.metrics import ConfusionMatrix, ErrorDetection, Reliability, Scores, scores_from_confusion
from iccld.progress import track

Role = Literal["best", "worst", "random"]
SIGNALS = ("entropy", "confidence", "mutual_information", "combined")
"""What may tell wrong pixels: entropy, one minus the answer's probability, the draws' mutual information, and the mean
of the last two; all in [0, 1]."""
_NUM_COMPARED = 32
"""Images on which teacher and student are compared."""


class Trust:
    """Calibration and error detection, gathered image by image as an observer of an evaluation."""

    def __init__(self) -> None:
        self.reliability = Reliability()
        self._of_classes: dict[int, Reliability] = {}
        self._detections = {name: ErrorDetection() for name in SIGNALS}

    def __call__(self, measured: Measured) -> None:
        """Adds the pixels of an image that count."""
        counted, prediction = measured.counted, measured.prediction
        confidence = torch.from_numpy(prediction.probabilities.max(axis=0)[counted])
        hits = torch.from_numpy(measured.right[counted])
        self.reliability.update(confidence, hits)
        entropy = torch.from_numpy(prediction.relative_uncertainty[counted])
        information = torch.from_numpy(prediction.relative_mutual_information[counted])
        scores = (entropy, 1 - confidence, information, (1 - confidence + information) / 2)
        for name, score in zip(SIGNALS, scores, strict=True):
            self._detections[name].update(score, hits)
        truth = torch.from_numpy(measured.truth[counted])
        probabilities = torch.from_numpy(prediction.probabilities[:, counted])
        for index in np.unique(measured.table[measured.table != IGNORE]).tolist():
            of_class = probabilities[torch.from_numpy(measured.table == index)].sum(dim=0)
            self._of_classes.setdefault(index, Reliability()).update(of_class, truth == index)

    def figures(self) -> dict[str, float]:
        """The figures that ``evaluate_trust`` gives."""
        figures = {"ece": self.reliability.expected_calibration_error}
        errors = [of_class.expected_calibration_error for of_class in self._of_classes.values()]
        figures["class_ece"] = fmean(errors) if errors else float("nan")
        for name, detection in self._detections.items():
            for measure in ("auroc", "aurc", "fpr95"):
                figures[f"{measure}_{name}"] = getattr(detection, measure)
        return figures


def evaluate_trust(
    model: Segmenter,
    dataset: SegmentationDataset,
    protocol: Protocol,
    settings: PredictSettings | None = None,
) -> tuple[Scores, dict[str, float]]:
    """Scores a model, its calibration and its uncertainty maps on the pixels that count; see ``evaluate_model``.

    Returns:
        The scores, and: ``ece``: expected calibration error of the answers, in [0, 1]; ``class_ece``: that of every
        class's probability, averaged (Nixon et al. 2019);
        ``auroc_SIGNAL``: probability that a wrong pixel has a greater signal than a right one; ``aurc_SIGNAL``: area
        under the risk-coverage curve; ``fpr95_SIGNAL``: false positive rate at 95 % true positive rate, for every
        signal of ``SIGNALS``.
    """
    trust = Trust()
    scores = evaluate_model(model, dataset, protocol, settings=settings, observe=trust)
    return scores, trust.figures()


@dataclass(frozen=True)
class Choice:
    """An image to be looked at, why it was chosen, and its own mIoU in percent; None where nothing was measured."""

    index: int
    role: Role
    miou: float | None


class Review:
    """Observes an evaluation (see ``iccld.inference.evaluation.evaluate_model``) for a report."""

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

        There are ``each`` of every kind, but never more than a third of the images.
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


def evenly_spaced(length: int, count: int) -> list[int]:
    """Indices at even distances, the first and, of several, the last among them."""
    indices: list[int] = np.unique(np.linspace(0, length - 1, count).round().astype(int)).tolist()
    return indices


def unsupervised_scores(
    teacher: Segmenter, student: Segmenter, dataset: SegmentationDataset, indices: Sequence[int] | None = None
) -> dict[str, float]:
    """Measures what can be seen of a model on unlabeled images, for choosing a checkpoint without target labels.

    The teacher averages the student and is the one to keep. Of many images, 32 at even distances are taken.

    Returns:
        ``entropy``: mean normalized entropy of the teacher, lower is surer; ``agreement``: share of pixels,
        in [0, 1], that teacher and student label alike, higher is steadier.
    """
    indices = range(len(dataset)) if indices is None else indices
    chosen = [indices[i] for i in evenly_spaced(len(indices), min(_NUM_COMPARED, len(indices)))]
    entropies, agreements = [], []
    for index in track(chosen, len(chosen), "Comparing with the student"):
        image = dataset.image(index)
        answer, other = teacher.predict(image), student.predict(image)
        entropies.append(float(answer.relative_uncertainty.mean()))
        agreements.append(float((answer.labels == other.labels).mean()))
    return {"entropy": float(np.mean(entropies)), "agreement": float(np.mean(agreements))}


class RunEvaluation:
    """Measures teacher and student of a run, and keeps what a report shows of the last time.

    Beside the scores it gives what needs no labels (``unsupervised_scores``): for choosing a checkpoint, scores by
    target labels must not be used. It takes the images of ``indices``; all if None.
    """

    def __init__(
        self, val: SegmentationDataset, protocol: Protocol, indices: Sequence[int] | None = None
    ) -> None:
        self.val, self.protocol = val, protocol
        self.indices = range(len(val)) if indices is None else indices
        self.last: tuple[Scores, Review] | None = None

    def of_some(self, count: int) -> RunEvaluation:
        """The same of so many images, at even distances; of all for 0 or where there are no more."""
        if not 0 < count < len(self.val):
            return self
        return RunEvaluation(self.val, self.protocol, evenly_spaced(len(self.val), count))

    def expected_seconds(self, teacher: Segmenter, student: Segmenter) -> float:
        """What a whole evaluation will take, from two of one image: the first one prepares the kernels."""
        one = RunEvaluation(self.val, self.protocol, [0])
        one(teacher, student)
        begun = time.monotonic()
        one(teacher, student)
        return (time.monotonic() - begun) * len(self.val)

    def __call__(self, teacher: Segmenter, student: Segmenter) -> dict[str, float]:
        """Gives the figures to log."""
        review = Review(self.protocol)
        scores = evaluate_model(teacher, self.val, self.protocol, indices=self.indices, observe=review)
        self.last = scores, review
        figures = {"val/miou": scores.miou, "val/pixel_accuracy": scores.pixel_accuracy}
        figures |= {f"val/iou/{k}": v for k, v in scores.iou.items() if v is not None}
        for name, value in unsupervised_scores(teacher, student, self.val, self.indices).items():
            figures[f"val/{name}"] = value
        return figures
