"""Metrics computed from counts: IoU, mIoU and accuracies in percent, calibration error, and detection of errors.

Pixels are counted as in the Cityscapes benchmark (cityscapesscripts ``evalPixelLevelSemanticLabeling``). Pixels with
the true label 255 are not counted. A class that is neither in the labels nor in the predictions has no IoU, and mIoU is
the mean of the other IoUs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float, Int64, Integer
from torch import Tensor

from iccld.documents import Length, Range, build
from iccld.errors import InputError
from iccld.labels import IGNORE, Protocol


class ConfusionMatrix:
    """Pixel counts by true class (row) and predicted class (column).

    ``counts`` has one more column than rows. The last column counts pixels that the prediction left unlabeled (255).
    These pixels are false negatives of their true class, and not false positives of any class. To combine the counts of
    several ranks, assign the sum of their ``counts`` to ``counts``. The counts are stored on ``device``, and ``update``
    copies predictions and labels to this device.
    """

    def __init__(self, num_classes: int, device: torch.device | str = "cpu") -> None:
        assert 1 <= num_classes < IGNORE, num_classes
        self.num_classes = num_classes
        size = (num_classes, num_classes + 1)
        self.counts: Int64[Tensor, "k k+1"] = torch.zeros(size, dtype=torch.int64, device=device)

    def update(self, prediction: Integer[Tensor, "..."], target: Integer[Tensor, "..."]) -> None:
        """Adds a prediction and labels: class indices in [0, k), or 255 for pixels without prediction or label."""
        assert prediction.shape == target.shape, (prediction.shape, target.shape)
        num_columns = self.num_classes + 1
        counted = target != IGNORE
        truth = target[counted].to(self.counts.device, torch.int64)
        answer = prediction[counted].to(self.counts.device, torch.int64)
        answer = torch.where(answer == IGNORE, self.num_classes, answer)
        # Without this check, an invalid label would be counted in a neighboring row.
        for name, values, end in (("target", truth, self.num_classes), ("prediction", answer, num_columns)):
            assert bool(((values >= 0) & (values < end)).all()), f"{name} holds labels beyond the classes"
        pairs = torch.bincount(truth * num_columns + answer, minlength=self.counts.numel())
        self.counts += pairs.view_as(self.counts)


_Count = Annotated[int, Range(0, 2**62)]


@dataclass(frozen=True)
class Scores:
    """Scores of one evaluation in percent, from 0 to 100.

    ``miou``, ``pixel_accuracy`` and ``mean_accuracy`` are NaN if no class or pixel is counted.

    Attributes:
        protocol: Name of the protocol.
        classes: Names of the rows of ``confusion``.
        iou: Intersection over union by class name, in label order, for the classes that the protocol averages.
            ``None`` if a class occurs neither in the labels nor in the predictions.
        accuracy: Percentage of correct pixels among the pixels labeled with a class, by class name, for the same
            classes as ``iou``. ``None`` if no pixel is labeled with the class.
        miou: Mean of the IoUs that are not ``None``.
        pixel_accuracy: Percentage of correct pixels among pixels whose true class the protocol averages.
        mean_accuracy: Mean of the accuracies that are not ``None``.
        confusion: Pixel counts by true class (row) and predicted class (column).
        unlabeled: Number of pixels that the prediction left unlabeled, by true class.
        num_images: Number of evaluated images.
    """

    protocol: str
    classes: Annotated[tuple[str, ...], Length(254)]
    iou: Mapping[str, float | None]
    accuracy: Mapping[str, float | None]
    miou: float
    pixel_accuracy: float
    mean_accuracy: float
    confusion: tuple[tuple[_Count, ...], ...]
    unlabeled: tuple[_Count, ...]
    num_images: int

    @property
    def measure(self) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        """Protocol name, classes and averaged classes. Scores are comparable only if all three are equal."""
        return self.protocol, tuple(self.classes), tuple(self.iou)

    def to_json(self, **extra: Any) -> dict[str, Any]:
        """Returns plain values for a JSON file. NaN becomes null. ``extra`` fields are placed before the counts."""
        means = (self.miou, self.pixel_accuracy, self.mean_accuracy)
        miou, pixel_accuracy, mean_accuracy = (None if math.isnan(mean) else mean for mean in means)
        return {
            "miou": miou,
            "iou": dict(self.iou),
            "pixel_accuracy": pixel_accuracy,
            "mean_accuracy": mean_accuracy,
            "accuracy": dict(self.accuracy),
            "num_images": self.num_images,
            "protocol": self.protocol,
            **extra,
            "classes": list(self.classes),
            "confusion": [list(row) for row in self.confusion],
            "unlabeled": list(self.unlabeled),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Scores:
        """Builds scores from the values of ``to_json``. Unknown fields are ignored. Wrong values raise InputError."""
        means = ("miou", "pixel_accuracy", "mean_accuracy")
        undefined = [name for name in means if isinstance(value, Mapping) and value.get(name, 0) is None]
        scores = build(cls, {**value, **dict.fromkeys(undefined, 0)}, "scores", others=True)
        size = len(scores.classes)
        if [len(row) for row in scores.confusion] != [size] * size or len(scores.unlabeled) != size:
            raise InputError(f"scores: the counts are not those of {size} classes")
        unknown: dict[str, Any] = dict.fromkeys(undefined, math.nan)
        return replace(scores, **unknown)


def scores_from_confusion(
    confusion: ConfusionMatrix | Int64[Tensor, "k columns"], protocol: Protocol, *, num_images: int = 0
) -> Scores:
    """Computes the scores of a protocol from a confusion matrix in the label space of the protocol.

    With the true positives tp, false positives fp and false negatives fn of a class, IoU = tp / (tp + fp + fn) and
    accuracy = tp / (tp + fn). Only pixels whose true class is in the protocol's label space can be false positives
    (Cordts et al. 2016, section 4.1). A tensor of counts has the shape k×k, or k×(k+1) if the last column counts
    unlabeled pixels.
    """
    counts = (confusion.counts if isinstance(confusion, ConfusionMatrix) else confusion).cpu()
    evaluated = tuple(protocol.space.names[i] for i in protocol.evaluated)
    return _scores(counts, protocol.name, protocol.space.names, evaluated, num_images)


def combine(parts: Sequence[Scores]) -> Scores:
    """Returns the scores of all images together, from the scores of disjoint sets of images.

    The result is exactly that of one evaluation of all images, because only pixel counts are added. All ``parts`` must
    have the same ``measure``.
    """
    name, classes, evaluated = parts[0].measure
    assert all(part.measure == parts[0].measure for part in parts)
    counts = [
        torch.tensor([[*row, n] for row, n in zip(p.confusion, p.unlabeled, strict=True)]) for p in parts
    ]
    return _scores(
        sum(counts[1:], counts[0]), name, classes, evaluated, sum(part.num_images for part in parts)
    )


def _scores(
    counts: Int64[Tensor, "k columns"],
    protocol: str,
    names: tuple[str, ...],
    evaluated: tuple[str, ...],
    num_images: int,
) -> Scores:
    num_classes = len(names)
    assert counts.shape in ((num_classes, num_classes), (num_classes, num_classes + 1)), counts.shape
    places = {name: names.index(name) for name in evaluated}
    hits = counts.diagonal().tolist()
    truths = counts.sum(1).tolist()
    answers = counts[:, :num_classes].sum(0).tolist()
    iou = {name: _percent(hits[i], truths[i] + answers[i] - hits[i]) for name, i in places.items()}
    accuracy = {name: _percent(hits[i], truths[i]) for name, i in places.items()}
    right = _percent(sum(hits[i] for i in places.values()), sum(truths[i] for i in places.values()))
    return Scores(
        protocol=protocol,
        classes=names,
        iou=iou,
        accuracy=accuracy,
        miou=_mean(iou),
        pixel_accuracy=math.nan if right is None else right,
        mean_accuracy=_mean(accuracy),
        confusion=tuple(tuple(row) for row in counts[:, :num_classes].tolist()),
        unlabeled=tuple(counts[:, num_classes:].sum(1).tolist()),
        num_images=num_images,
    )


def _percent(part: int, whole: int) -> float | None:
    return 100.0 * (part / whole) if whole else None


def _mean(values: Mapping[str, float | None]) -> float:
    present = [v for v in values.values() if v is not None]
    return sum(present) / len(present) if present else math.nan


class Reliability:
    """Counts for the expected calibration error (Guo et al. 2017), in confidence bins of equal width over [0, 1]."""

    def __init__(self, num_bins: int = 15) -> None:
        self.num_bins = num_bins
        self.pixels, self.confidence, self.right = torch.zeros(3, num_bins, dtype=torch.float64)

    def update(self, confidence: Float[Tensor, " n"], right: Bool[Tensor, " n"]) -> None:
        """Adds pixels: the probability of each pixel's predicted class, and a mask of correctly classified pixels."""
        # A bin includes its upper end, as in Guo et al. 2017.
        bins = (confidence.double() * self.num_bins).ceil().long().sub(1).clamp(0, self.num_bins - 1)
        count = torch.bincount(bins, minlength=self.num_bins)
        self.pixels += count
        self.confidence += torch.bincount(bins, weights=confidence.double(), minlength=self.num_bins)
        self.right += torch.bincount(bins, weights=right.double(), minlength=self.num_bins)

    def add(self, counts: Mapping[str, Sequence[float]]) -> None:
        """Adds the counts of another evaluation, which are the values of ``to_json``."""
        for name, values in counts.items():
            getattr(self, name).add_(torch.tensor(values, dtype=torch.float64))

    def to_json(self) -> dict[str, list[float]]:
        """Returns the sums of each bin as plain values."""
        return {name: getattr(self, name).tolist() for name in ("pixels", "confidence", "right")}

    @property
    def expected_calibration_error(self) -> float:
        """Expected calibration error, from 0 to 1.

        The error is the absolute difference between mean confidence and accuracy in each bin, averaged over all bins.
        The weight of a bin in this average is its number of pixels. The value is NaN if no pixels were added.
        """
        return float((self.confidence - self.right).abs().sum() / self.pixels.sum())


class ErrorDetection:
    """Counts of correct and wrong pixels by uncertainty score.

    The metrics measure how well high scores detect wrong pixels. The bins have equal width in the fourth root of the
    score. The bins are therefore narrow near zero, where most scores are. Pixels in the same bin count as ties.
    """

    def __init__(self, num_bins: int = 8192) -> None:
        self.right, self.wrong = torch.zeros(2, num_bins, dtype=torch.float64)

    def update(self, score: Float[Tensor, " n"], right: Bool[Tensor, " n"]) -> None:
        """Adds pixels: the uncertainty score (0 to 1) of each pixel, and a mask of correctly classified pixels."""
        num_bins = len(self.right)
        bins = (score.double().clamp(0, 1) ** 0.25 * num_bins).long().clamp(max=num_bins - 1)
        self.right += torch.bincount(bins[right], minlength=num_bins)
        self.wrong += torch.bincount(bins[~right], minlength=num_bins)

    def add(self, counts: Mapping[str, Mapping[str, float]]) -> None:
        """Adds the counts of another evaluation, which are the values of ``to_json``."""
        for name, values in counts.items():
            bins = torch.tensor([int(place) for place in values], dtype=torch.int64)
            getattr(self, name).index_add_(0, bins, torch.tensor([*values.values()], dtype=torch.float64))

    def to_json(self) -> dict[str, dict[str, float]]:
        """Returns the counts of the bins that are not empty, by number of the bin."""
        counts = {"right": self.right.tolist(), "wrong": self.wrong.tolist()}
        return {name: {str(bin): n for bin, n in enumerate(all_) if n} for name, all_ in counts.items()}

    @property
    def auroc(self) -> float:
        """Probability that a wrong pixel has a higher score than a correct pixel. Ties count half.

        The value is NaN if there are no wrong or no correct pixels.
        """
        below = self.right.cumsum(0) - self.right
        wins = (self.wrong * (below + self.right / 2)).sum()
        return float(wins / (self.wrong.sum() * self.right.sum()))

    @property
    def aurc(self) -> float:
        """Area under the risk-coverage curve (Geifman et al. 2019), from 0 to 1. The value is NaN without pixels.

        The area is the error rate of the n pixels with the lowest scores, averaged over all n.
        """
        pixels = self.right + self.wrong
        risk = self.wrong.cumsum(0) / pixels.cumsum(0).clamp_min(1.0)
        return float((pixels * risk).sum() / pixels.sum())

    @property
    def fpr95(self) -> float:
        """False positive rate at a true positive rate of 95 %, from 0 to 1, where wrong pixels are the positives.

        The threshold is chosen so that 95 % of the wrong pixels have a higher score. The result is the fraction of
        correct pixels above this threshold. The result is NaN if there are no wrong or no correct pixels.
        """
        found = self.wrong.flip(0).cumsum(0) / self.wrong.sum()
        called = self.right.flip(0).cumsum(0) / self.right.sum()
        if found[-1] != found[-1]:
            return float("nan")
        return float(called[(found >= 0.95 - 1e-12).nonzero()[0, 0]])
