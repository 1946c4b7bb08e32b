"""The built-in model ``streets``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import iccld
from iccld.errors import InputError
from iccld.labels import CITYSCAPES19
from iccld.models.iccld import ICCLD
from iccld.models.storage import BUILT_IN, WEIGHTS, find_model, read_config


def test_the_weights_are_part_of_the_package() -> None:
    folder = find_model("streets")
    assert (folder / WEIGHTS).stat().st_size <= 12_000_000
    assert ICCLD.from_pretrained("streets").label_space == CITYSCAPES19
    assert "streets" in (folder / "README.md").read_text(encoding="utf-8")
    assert str(Path.home()) not in str(read_config(folder))


def test_unseen_scenes_are_segmented() -> None:
    scores = iccld.evaluate("streets", "street_scenes", look="camera", limit=3, device="cpu", threads=1)
    common = [scores.iou[name] or 0 for name in ("road", "sky", "vegetation", "building")]
    assert min(common) > 60, scores.iou


def test_a_folder_of_the_same_name_wins_if_it_holds_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built_in = find_model("streets")
    monkeypatch.chdir(tmp_path)
    Path("streets").mkdir()
    assert find_model("streets") == built_in
    ICCLD(CITYSCAPES19, width=16, latent_channels=4).save_pretrained("streets")
    assert find_model("streets") == Path("streets")


def test_a_wrong_name_gets_the_names_of_built_in_models() -> None:
    with pytest.raises(InputError, match=", ".join(BUILT_IN)):
        find_model("street")


def test_an_image_of_any_size_is_segmented() -> None:
    labels = ICCLD.from_pretrained("streets").predict(np.zeros((33, 47, 3), np.uint8)).labels
    assert labels.shape == (33, 47)
