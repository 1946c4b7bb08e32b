"""Scores made from counts: IoU, mIoU and accuracies in percent, calibration error, detection of errors.

The counting follows the Cityscapes benchmark (cityscapesscripts ``evalPixelLevelSemanticLabeling``) and
equals it exactly: pixels whose truth is 255 are not counted at all, a class that neither the truth nor the
prediction holds has no IoU, and the mean runs over the classes that have one. Calibration and detection are counted in
histograms, so that data sets of any size take the same few kilobytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float, Int64, Integer
from torch import Tensor

from iccld.documents import Length, Range, build
from iccld.errors import InputError
from iccld.labels import IGNORE, Protocol


class ConfusionMatrix:
    """Counts pixels by true class (row) and predicted class (column).

    ``counts`` has one column more than rows: the last holds the pixels that the prediction left unlabeled
    (255). They miss their true class and accuse no other. It is an ordinary int64 tensor of fixed shape, so
    ranks are joined by summing it (``counts`` may be assigned).

    Args:
        num_classes: k, the number of classes of the label space that both maps are in.
        device: where the counts live; updates come from the same device.
    """

    def __init__(self, num_classes: int, device: torch.device | str = "cpu") -> None:
        assert 1 <= num_classes < IGNORE, num_classes
        self.num_classes = num_classes
        self.counts: Int64[Tensor, "k k+1"] = torch.zeros(
            num_classes, num_classes + 1, dtype=torch.int64, device=device
        )

    def update(self, prediction: Integer[Tensor, "..."], target: Integer[Tensor, "..."]) -> None:
        """Adds the pixels of one prediction and its truth.

        Args:
            prediction: class indices in [0, k), or 255 where there is no answer; any integer type.
            target: true class indices in [0, k), or 255 where the pixel is not to be counted; same shape.
        """
        assert prediction.shape == target.shape, (prediction.shape, target.shape)
        num_columns = self.num_classes + 1
        counted = target != IGNORE
        truth = target[counted].to(self.counts.device, torch.int64)
        answer = prediction[counted].to(self.counts.device, torch.int64)
        answer = torch.where(answer == IGNORE, self.num_classes, answer)
        # Without this a stray label would be counted in a neighboring row.
        for name, values, end in (("target", truth, self.num_classes), ("prediction", answer, num_columns)):
            assert bool(((values >= 0) & (values < end)).all()), f"{name} holds labels beyond the classes"
        pairs = torch.bincount(truth * num_columns + answer, minlength=self.counts.numel())
        self.counts += pairs.view_as(self.counts)


_Count = Annotated[int, Range(0, 2**62)]


@dataclass(frozen=True)
class Scores:
    """The scores of one evaluation; every share is in percent, 0 to 100.

    Attributes:
        protocol: the name of the protocol.
        classes: the names of the rows of ``confusion``.
        iou: intersection over union by name, in label order, of the classes that the protocol averages; None
            where neither truth nor prediction holds the class.
        accuracy: the share of each such class's true pixels that were found; None where the truth holds none.
        miou: the mean of the IoUs that are not None; NaN if there is none.
        pixel_accuracy: the share of right pixels among those whose true class the protocol averages, or NaN.
        mean_accuracy: the mean of the accuracies that are not None, or NaN.
        confusion: pixels by true class (row) and predicted class (column).
        unlabeled: for each true class, the pixels that the prediction left unlabeled.
        num_images: how many images were counted.
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
        """What scores must have in common to be compared: the protocol's name, its classes, and those it averages."""
        return self.protocol, tuple(self.classes), tuple(self.iou)

    def to_json(self, **extra: Any) -> dict[str, Any]:
        """Plain values for a JSON file; NaN becomes null.

        Args:
            **extra: further fields, such as the model's path, placed after the scores and before the counts.
        """
        return {
            "miou": _number_or_none(self.miou),
            "iou": dict(self.iou),
            "pixel_accuracy": _number_or_none(self.pixel_accuracy),
            "mean_accuracy": _number_or_none(self.mean_accuracy),
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
        """Reads what ``to_json`` wrote; further fields are left aside.

        Raises:
            InputError: a field is missing or of another type.
        """
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
    """Makes the scores of a protocol out of confusion counts.

    With tp, fp, fn of a class: IoU = tp / (tp + fp + fn), accuracy = tp / (tp + fn). False positives come
    only from pixels whose truth is a class of the protocol's space (Cordts et al. 2016, section 4.1).

    Args:
        confusion: counts in ``protocol.space``; a tensor may be k×k, or k×(k+1) with the unlabeled ones last.
        protocol: which classes are averaged.
        num_images: how many images went in; passed on.
    """
    counts = (confusion.counts if isinstance(confusion, ConfusionMatrix) else confusion).cpu()
    num_classes = len(protocol.space)
    assert counts.shape[0] == num_classes, (counts.shape, protocol.name)
    assert counts.shape[1] in (num_classes, num_classes + 1), counts.shape
    hits = counts.diagonal().tolist()
    truths = counts.sum(1).tolist()
    answers = counts[:, :num_classes].sum(0).tolist()
    names = protocol.space.names
    iou = {names[i]: _percent(hits[i], truths[i] + answers[i] - hits[i]) for i in protocol.evaluated}
    accuracy = {names[i]: _percent(hits[i], truths[i]) for i in protocol.evaluated}
    right = _percent(sum(hits[i] for i in protocol.evaluated), sum(truths[i] for i in protocol.evaluated))
    return Scores(
        protocol=protocol.name,
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


def _number_or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


class Reliability:
    """The expected calibration error (Guo et al. 2017) with bins of equal width of confidence in [0, 1]."""

    def __init__(self, num_bins: int = 15) -> None:
        self.num_bins = num_bins
        self.pixels = torch.zeros(num_bins, dtype=torch.float64)
        self.confidence = torch.zeros(num_bins, dtype=torch.float64)
        self.right = torch.zeros(num_bins, dtype=torch.float64)

    def update(self, confidence: Float[Tensor, " n"], right: Bool[Tensor, " n"]) -> None:
        """Adds pixels: the probability of the class answered, and whether it was the true one."""
        # A bin holds its upper end, as in the paper.
        bins = (confidence.double() * self.num_bins).ceil().long().sub(1).clamp(0, self.num_bins - 1)
        count = torch.bincount(bins, minlength=self.num_bins)
        self.pixels += count
        self.confidence += torch.bincount(bins, weights=confidence.double(), minlength=self.num_bins)
        self.right += torch.bincount(bins, weights=right.double(), minlength=self.num_bins)

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance of confidence and accuracy over the pixels, in [0, 1]; NaN without pixels."""
        return float((self.confidence - self.right).abs().sum() / self.pixels.sum())


class ErrorDetection:
    """How well a score ranks wrong pixels above right ones.

    Scores are counted in bins of their fourth root, which are fine near zero, where sure pixels crowd; pixels in the
    same bin count as ties.
    """

    def __init__(self, num_bins: int = 8192) -> None:
        self.right = torch.zeros(num_bins, dtype=torch.float64)
        self.wrong = torch.zeros(num_bins, dtype=torch.float64)

    def update(self, score: Float[Tensor, " n"], right: Bool[Tensor, " n"]) -> None:
        """Adds pixels: their score in [0, 1], and whether the answer was right."""
        num_bins = len(self.right)
        bins = (score.double().clamp(0, 1) ** 0.25 * num_bins).long().clamp(max=num_bins - 1)
        self.right += torch.bincount(bins[right], minlength=num_bins)
        self.wrong += torch.bincount(bins[~right], minlength=num_bins)

    @property
    def auroc(self) -> float:
        """Probability that a wrong pixel scores above a right one, ties counting half; NaN where all are one kind."""
        below = self.right.cumsum(0) - self.right
        wins = (self.wrong * (below + self.right / 2)).sum()
        return float(wins / (self.wrong.sum() * self.right.sum()))

    @property
    def aurc(self) -> float:
        """Area under the risk-coverage curve (Geifman et al. 2019), in [0, 1]; NaN without pixels.

        The mean error rate of the surest pixels over all numbers of them that may be kept. Pixels of a bin are kept
        at once.
        """
        pixels = self.right + self.wrong
        risk = self.wrong.cumsum(0) / pixels.cumsum(0).clamp_min(1.0)
        return float((pixels * risk).sum() / pixels.sum())

    @property
    def fpr95(self) -> float:
        """Share of right pixels among those that are called wrong when 95 % of the wrong ones are; NaN as ``auroc``.

        In [0, 1]: the false positive rate at a true positive rate of 95 %, wrong pixels being the positives.
        """
        found = self.wrong.flip(0).cumsum(0) / self.wrong.sum()
        called = self.right.flip(0).cumsum(0) / self.right.sum()
        if found[-1] != found[-1]:
            return float("nan")
        return float(called[(found >= 0.95 - 1e-12).nonzero()[0, 0]])
