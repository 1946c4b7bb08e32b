"""Evaluation with a second question: does the model know where it is wrong?"""

from __future__ import annotations

import torch

from iccld.calibration import ErrorDetection, Reliability
from iccld.data.datasets import SegmentationDataset
from iccld.inference.evaluation import Measured, evaluate_model
from iccld.inference.segmenter import Segmenter
from iccld.labels import Protocol
from iccld.metrics import Scores


class Trust:
    """Calibration and error detection, gathered image by image as an observer of an evaluation."""

    def __init__(self) -> None:
        self.reliability = Reliability()
        self._detections = {
            name: ErrorDetection() for name in ("entropy", "confidence", "mutual_information")
        }

    def __call__(self, measured: Measured) -> None:
        """Adds the pixels of an image that count."""
        counted, prediction = measured.counted, measured.prediction
        confidence = torch.from_numpy(prediction.probabilities.max(axis=0)[counted])
        hits = torch.from_numpy(measured.right[counted])
        self.reliability.update(confidence, hits)
        self._detections["entropy"].update(torch.from_numpy(prediction.relative_uncertainty[counted]), hits)
        self._detections["confidence"].update(1 - confidence, hits)
        self._detections["mutual_information"].update(
            torch.from_numpy(prediction.relative_mutual_information[counted]), hits
        )

    def figures(self) -> dict[str, float]:
        """The figures that ``evaluate_trust`` gives."""
        figures = {f"auroc_{name}": detection.auroc for name, detection in self._detections.items()}
        return {"ece": self.reliability.expected_calibration_error, **figures}


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
        The scores, and: ``ece``: expected calibration error of the class probabilities, in [0, 1];
        ``auroc_entropy``, ``auroc_confidence``, ``auroc_mutual_information``: probability that a wrong pixel has
        more entropy, less probability, or more disagreement of draws than a right one.
    """
    trust = Trust()
    scores = evaluate_model(model, dataset, protocol, steps=steps, draws=draws, seed=seed, observe=trust)
    return scores, trust.figures()
