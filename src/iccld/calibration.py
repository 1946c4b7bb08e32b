"""Whether a model knows when it is wrong: calibration error, and how well uncertainty finds wrong pixels.

Both are counted in histograms, so that data sets of any size take the same few kilobytes.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Reliability:
    """The expected calibration error (Guo et al. 2017) with bins of equal width.

    Args:
        num_bins: of confidence in [0, 1].
    """

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

    Args:
        num_bins: of the score.
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
