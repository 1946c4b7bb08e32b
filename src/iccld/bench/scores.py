"""Scores of a trained run that need no target labels."""

from __future__ import annotations

from iccld.config import TrainConfig
from iccld.inference.label_free import label_free_scores
from iccld.inference.review import evenly_spaced
from iccld.inference.segmenter import Segmenter
from iccld.run_data import open_target

_MOST_IMAGES = 32


def target_scores(config: TrainConfig, model: Segmenter) -> dict[str, float]:
    """Returns the scores of ``label_free_scores`` on up to 32 evenly spaced target images of a run's training."""
    target = open_target(config, "target")
    images = (target.image(index) for index in evenly_spaced(len(target), _MOST_IMAGES))
    return label_free_scores(model, images)
