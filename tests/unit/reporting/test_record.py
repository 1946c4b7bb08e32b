from __future__ import annotations

from pathlib import Path

import pytest
import torch

from iccld.errors import InputError
from iccld.inference.review import Trust
from iccld.labels import CAMVID11, PROTOCOLS
from iccld.metrics import ConfusionMatrix, scores_from_confusion
from iccld.reporting.record import Calibration, Example, Record, read_record


def calibration() -> Calibration:
    trust = Trust()
    trust.reliability.update(torch.tensor([0.55, 0.55, 0.95, 0.95]), torch.tensor([True, False, True, True]))
    return Calibration.of(trust)


def test_bins_of_the_calibration():
    found = calibration()
    assert sum(found.pixels) == 4
    shown = [(n, c, a) for n, c, a in zip(found.pixels, found.confidence, found.accuracy, strict=True) if n]
    assert shown == [(2, 0.55, 0.5), (2, 0.95, 1.0)]
    assert found.figures["ece"] == pytest.approx(0.05)
    assert found.figures["auroc_entropy"] is None


def test_what_is_written_is_read_back(tmp_path: Path):
    assert read_record(tmp_path) is None
    confusion = ConfusionMatrix(11)
    confusion.counts[0, 0] = 3
    record = Record(
        environment={"python": "3.11", "commit": None},
        step=4,
        measured_on="folder, val",
        scores=scores_from_confusion(confusion, PROTOCOLS["camvid11"], num_images=1),
        calibration=calibration(),
        examples=(Example("a.png", "best", 12.5, {"image": "data:,"}), Example("b.png", "random", None, {})),
        legend=tuple((c.name, c.color) for c in CAMVID11.classes),
    )
    record.write(tmp_path)
    assert read_record(tmp_path) == record
    Record(no_scores="none").write(tmp_path)
    assert read_record(tmp_path) == Record(no_scores="none")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"environment": 3}'])
def test_anything_else_is_refused(text: str, tmp_path: Path):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(InputError, match=r"report\.json: is no record of a report"):
        read_record(tmp_path)
