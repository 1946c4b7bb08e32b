"""Evaluation beyond the scores: calibration, selection of images for reports, and metrics without labels."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated, Any, Literal

import numpy as np
import torch

from iccld.data.interface import SegmentationDataset
from iccld.documents import Length, Range
from iccld.errors import InputError
from iccld.inference.evaluation import Measured, evaluate_model
from iccld.inference.segmenter import PredictSettings, Segmenter
from iccld.labels import IGNORE, Protocol
from iccld.metrics import ConfusionMatrix, ErrorDetection, Reliability, Scores, scores_from_confusion
from iccld.progress import track

Role = Literal["best", "worst", "random"]
SIGNALS = ("entropy", "confidence", "mutual_information", "combined")
"""Signals for the detection of pixels with a wrong prediction. All signals are in [0, 1]. ``entropy`` is the relative
entropy. ``confidence`` is one minus the highest probability. ``mutual_information`` is the relative mutual information
of the noise draws. ``combined`` is the mean of ``confidence`` and ``mutual_information``."""
_NUM_COMPARED = 32
"""Maximum number of images on which ``unsupervised_scores`` compares teacher and student."""


_Sum = Annotated[float, Range(0, 2**62)]


@dataclass(frozen=True)
class _Bins:
    pixels: tuple[_Sum, ...]
    confidence: tuple[_Sum, ...]
    right: tuple[_Sum, ...]

    def __post_init__(self) -> None:
        if {len(sums) for sums in vars(self).values()} != {Reliability().num_bins}:
            raise InputError(f"bins of confidence must be {Reliability().num_bins}")


@dataclass(frozen=True)
class _Detection:
    right: Mapping[str, _Sum]
    wrong: Mapping[str, _Sum]

    def __post_init__(self) -> None:
        most = len(ErrorDetection().right)
        places = [*self.right, *self.wrong]
        if not all(place.isascii() and place.isdigit() and len(place) < 5 for place in places):
            raise InputError("a bin of a score is no number")
        if max(map(int, places), default=0) >= most:
            raise InputError(f"bins of scores end at {most - 1}")


@dataclass(frozen=True)
class TrustCounts:
    """Counts of ``Trust`` as plain values: of all classes, of each class (by index), and of each signal."""

    reliability: _Bins
    classes: Annotated[Mapping[str, _Bins], Length(254)]
    detections: Mapping[str, _Detection]

    def __post_init__(self) -> None:
        if not all(index.isascii() and index.isdigit() and len(index) < 4 for index in self.classes):
            raise InputError("a class is no index")
        if set(self.detections) != set(SIGNALS):
            raise InputError(f"the signals must be {', '.join(SIGNALS)}")


class Trust:
    """A callback for ``evaluate_model`` that accumulates data on calibration and on the detection of wrong pixels."""

    def __init__(self) -> None:
        self.reliability = Reliability()
        self._of_classes: dict[int, Reliability] = defaultdict(Reliability)
        self._detections = {name: ErrorDetection() for name in SIGNALS}

    def __call__(self, measured: Measured) -> None:
        """Adds the pixels of an evaluated image that count (``measured.counted``)."""
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
            self._of_classes[index].update(of_class, truth == index)

    def add(self, counts: TrustCounts) -> None:
        """Adds the counts of another evaluation with the same classes (see ``to_json``)."""
        self.reliability.add(vars(counts.reliability))
        for index, of_class in counts.classes.items():
            self._of_classes[int(index)].add(vars(of_class))
        for name, detection in counts.detections.items():
            self._detections[name].add(vars(detection))

    def to_json(self) -> dict[str, Any]:
        """Returns all counts as plain values, which ``TrustCounts`` describes."""
        return {
            "reliability": self.reliability.to_json(),
            "classes": {str(index): of_class.to_json() for index, of_class in self._of_classes.items()},
            "detections": {name: detection.to_json() for name, detection in self._detections.items()},
        }

    def figures(self) -> dict[str, float]:
        """Returns the metrics by name; see ``evaluate_trust`` for their definitions."""
        errors = [of_class.expected_calibration_error for of_class in self._of_classes.values()]
        figures = {"ece": self.reliability.expected_calibration_error}
        figures["class_ece"] = fmean(errors) if errors else math.nan
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
    """Returns the scores of ``evaluate_model``, and metrics of calibration and of the detection of wrong pixels.

    ``ece`` is the top-label expected calibration error (ECE), in [0, 1]. ``class_ece`` is the ECE of each class's
    probability, averaged over the classes (Nixon et al. 2019). Each signal of ``SIGNALS`` has three metrics for the
    detection of wrong pixels, which are the positives. ``auroc_SIGNAL`` is the probability that a wrong pixel has a
    higher signal than a correct pixel. ``aurc_SIGNAL`` is the area under the risk-coverage curve. ``fpr95_SIGNAL`` is
    the false positive rate at 95 % true positive rate. See ``evaluate_model`` for the arguments and errors.
    """
    trust = Trust()
    scores = evaluate_model(model, dataset, protocol, settings=settings, observe=trust)
    return scores, trust.figures()


@dataclass(frozen=True)
class Choice:
    """An image that was selected for a report. ``role`` is the reason for the selection.

    ``index`` is the image's index in the data set. ``miou`` is the mIoU of this image alone in percent, or ``None`` if
    the data set has no labels.
    """

    index: int
    role: Role
    miou: float | None


class Review:
    """A callback for ``evaluate_model`` that collects calibration data and the mIoU of each image for a report."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol, self.trust = protocol, Trust()
        self.mious: dict[int, float] = {}

    def __call__(self, measured: Measured) -> None:
        """Adds an evaluated image."""
        self.trust(measured)
        confusion = ConfusionMatrix(len(self.protocol.space))
        confusion.update(torch.from_numpy(measured.answer), torch.from_numpy(measured.truth))
        self.mious[measured.index] = scores_from_confusion(confusion, self.protocol).miou

    def choose(self, *, each: int = 3, seed: int = 0) -> list[Choice]:
        """Selects random images, and the best and the worst of the remaining images by mIoU.

        Each of these three roles gets up to ``each`` images, or about a third of the images if there are few. With
        fewer than three images, none is random. The random images are the same for every model.
        """
        counted = [i for i in sorted(self.mious) if not math.isnan(self.mious[i])]
        num = min(each, max(1, len(counted) // 3))
        # The random images are drawn first and independently of the scores, so that they are the same for all models.
        drawn = np.random.default_rng(seed).permutation(counted)[: num if len(counted) > 2 else 0].tolist()
        order = sorted((i for i in counted if i not in drawn), key=lambda i: -self.mious[i])
        best, worst = order[:num], order[num:][::-1][:num]
        kinds: tuple[tuple[Role, list[int]], ...] = (("best", best), ("worst", worst), ("random", drawn))
        return [Choice(int(index), role, self.mious[index]) for role, found in kinds for index in found]


def choose_unmeasured(num_images: int, *, count: int = 6, seed: int = 0) -> list[Choice]:
    """Selects up to ``count`` random images for the report of a data set without labels."""
    drawn = np.random.default_rng(seed).permutation(num_images)[:count]
    return [Choice(int(index), "random", None) for index in sorted(drawn)]


def evenly_spaced(length: int, count: int) -> list[int]:
    """Returns up to ``count`` evenly spaced indices below ``length``, from the first to the last index."""
    indices: list[int] = np.unique(np.linspace(0, length - 1, count).round().astype(int)).tolist()
    return indices


def unsupervised_scores(
    teacher: Segmenter, student: Segmenter, dataset: SegmentationDataset, indices: Sequence[int] | None = None
) -> dict[str, float]:
    """Computes metrics on unlabeled images, so that a checkpoint can be selected without target labels.

    The teacher is the moving average of the student and is the model that is saved. ``indices`` are the indices of the
    available images. ``None`` means all images. Up to 32 of these images, evenly spaced, are used. ``entropy`` is the
    mean normalized entropy of the teacher's probabilities, in [0, 1]. ``agreement`` is the fraction of pixels for which
    teacher and student predict the same class.
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
    """A callable that evaluates a run's teacher, compares teacher and student, and keeps the results for the report.

    The metrics include ``unsupervised_scores``, because scores with target labels must not be used to select a
    checkpoint. ``indices`` selects images of ``val``. ``None`` selects all images. ``last`` contains the results of the
    last call.
    """

    def __init__(
        self, val: SegmentationDataset, protocol: Protocol, indices: Sequence[int] | None = None
    ) -> None:
        self.val, self.protocol, self.indices = val, protocol, indices
        self.last: tuple[Scores, Review] | None = None

    def of_some(self, count: int) -> RunEvaluation:
        """Returns an evaluation on ``count`` evenly spaced images, or on all images if ``count`` is 0 or too large."""
        if not 0 < count < len(self.val):
            return self
        return RunEvaluation(self.val, self.protocol, evenly_spaced(len(self.val), count))

    def expected_seconds(self, teacher: Segmenter, student: Segmenter) -> float:
        """Estimates the duration of a full evaluation in seconds from the time for one image after a warm-up pass."""
        one = RunEvaluation(self.val, self.protocol, [0])
        one(teacher, student)
        begun = time.monotonic()
        one(teacher, student)
        return (time.monotonic() - begun) * len(self.val)

    def __call__(self, teacher: Segmenter, student: Segmenter) -> dict[str, float]:
        """Evaluates teacher and student, and returns the metrics to log, such as ``val/miou`` in percent."""
        review = Review(self.protocol)
        scores = evaluate_model(teacher, self.val, self.protocol, indices=self.indices, observe=review)
        self.last = scores, review
        figures = {"val/miou": scores.miou, "val/pixel_accuracy": scores.pixel_accuracy}
        figures |= {f"val/iou/{k}": v for k, v in scores.iou.items() if v is not None}
        without_labels = unsupervised_scores(teacher, student, self.val, self.indices)
        return figures | {f"val/{name}": value for name, value in without_labels.items()}
