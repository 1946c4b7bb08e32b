from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from iccld.labels import PROTOCOLS
from iccld.metrics import ConfusionMatrix, scores_from_confusion
from iccld.reporting.record import Calibration, Example, Record, Subject, labels_uri

PIXEL = labels_uri(np.zeros((1, 1), np.uint8), ((200, 100, 0),))


@pytest.fixture
def make_subject() -> Callable[..., Subject]:
    """Makes a run of CamVid's 11 classes whose road is right for a given share of 100 pixels, the rest a car."""

    def make(name: str = "mine", right: int = 80, **changes: Any) -> Subject:
        protocol = PROTOCOLS["camvid11"]
        confusion = ConfusionMatrix(11)
        confusion.counts[0, 0], confusion.counts[0, 10] = right, 100 - right
        confusion.counts[10, 10] = 50
        calibration = Calibration(
            {"ece": 0.125, "auroc_entropy": 0.75, "auroc_mutual_information": 0.5},
            (0, 40, 60), (None, 0.5, 0.9), (None, 0.25, 0.8),
        )  # fmt: skip
        record = Record(
            environment={
                "commit": "abc1234",
                "changed": True,
                "python": "3.11",
                "command": "iccld train demo",
            },
            measured_on="folder, val, 3 images",
            scores=scores_from_confusion(confusion, protocol, num_images=3),
            calibration=calibration,
            examples=tuple(
                Example(f"{role}.png", role, 10.0, {"image": PIXEL, "truth": PIXEL})
                for role in ("best", "worst")
            ),
            legend=tuple((c.name, c.color) for c in protocol.space.classes),
        )
        table = {"step": [2.0, 4.0], "train/loss": [2.0, 1.0], "train/loss_denoising_source": [1.0, 0.5]}
        table["val/miou"] = [float("nan"), 40.0]
        facts = [("method", "iccld"), ("seed", "0"), ("steps", "4 of 4")]
        return Subject(**({"name": name, "facts": facts, "record": record, "table": table} | changes))

    return make
