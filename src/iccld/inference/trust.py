"""Evaluation with a second question: does the model know where it is wrong?"""

from __future__ import annotations

from statistics import fmean

import numpy as np
import torch

from iccld.data.datasets import SegmentationDataset
from iccld.inference.evaluation import Measured, evaluate_model
from iccld.inference.segmenter import Segmenter
from iccld.labels import IGNORE, Protocol
from iccld.metrics import ErrorDetection, Reliability, Scores

SIGNALS = ("entropy", "confidence", "mutual_information", "combined")
"""What may tell wrong pixels: entropy, one minus the answer's probability, the draws' mutual information, and the mean
of the last two; all in [0, 1]."""


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
            figures |= {
                f"auroc_{name}": detection.auroc,
                f"aurc_{name}": detection.aurc,
                f"fpr95_{name}": detection.fpr95,
            }
        return figures


def evaluate_trust(
    model: Segmenter,
    dataset: SegmentationDataset,
    protocol: Protocol,
    *,
    steps: int = 1,
    draws: int = 1,
    seed: int = 0,
) -> tuple[Scores, dict[str, float]]:
    """Scores a model, its calibration and its uncertainty maps on the pixels that count.

    Args:
        model: see ``evaluate_model``.
        dataset: the same.
        protocol: the same.
        steps: denoising steps.
        draws: noise draws averaged per image.
        seed: of the noise.

    Returns:
        The scores, and: ``ece``: expected calibration error of the answers, in [0, 1]; ``class_ece``: that of every
        class's probability, averaged (Nixon et al. 2019);
        ``auroc_SIGNAL``: probability that a wrong pixel has a greater signal than a right one; ``aurc_SIGNAL``: area
        under the risk-coverage curve; ``fpr95_SIGNAL``: false positive rate at 95 % true positive rate, for every
        signal of ``SIGNALS``.
    """
    trust = Trust()
    scores = evaluate_model(model, dataset, protocol, steps=steps, draws=draws, seed=seed, observe=trust)
    return scores, trust.figures()
