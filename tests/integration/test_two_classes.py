"""docs/two_classes.md, run as it is printed but for the length of the training and the size of the network."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iccld.cli import main
from iccld.data.datasets import open_dataset
from iccld.models.image_coder import CompactCoder

PAGE = (Path(__file__).parents[2] / "docs" / "two_classes.md").read_text(encoding="utf-8")
_QUICK = """
    --steps 3 --model.latent-channels 4 --log-every 1 --optim.warmup-steps 1 --data.num-workers 0
    --threads 1 --device cpu --precision fp32
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which all commands of the page have run."""
    folder = tmp_path_factory.mktemp("page")
    narrow = partial(CompactCoder, channels=(8, 12, 16, 24, 32))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("iccld.models.image_coder.CompactCoder", narrow)
        (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
        exec(compile(code, "make_shapes.py", "exec"), {})
        blocks = re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)
        for line in "".join(blocks).splitlines():
            program, *words = shlex.split(line)
            assert program == "iccld"
            if words[0] == "train":
                at = words.index("--steps")
                words[at : at + 2] = shlex.split(_QUICK)
            assert main(words) == 0, line
        yield folder


def test_both_classes_have_a_finite_iou(place: Path) -> None:
    scores = json.loads((place / "runs/shapes/val.json").read_text())
    assert scores["protocol"].startswith("custom")
    assert list(scores["iou"]) == ["background", "circle"]
    assert all(math.isfinite(value) for value in (scores["miou"], *scores["iou"].values()))
    # Every pixel of the masks counts: 255 is a class here.
    assert np.sum(scores["confusion"]) == 10 * 96 * 128
    assert np.sum(scores["unlabeled"]) == 0


def test_nothing_in_the_run_is_nan(place: Path) -> None:
    metrics = (place / "runs/shapes/metrics.csv").read_text()
    assert "val/iou/circle" in metrics
    assert "nan" not in metrics.lower()


def test_label_maps_hold_the_users_ids(place: Path) -> None:
    found: set[int] = set()
    for path in sorted((place / "runs/shapes/predictions/labels").glob("*.png")):
        with Image.open(path) as picture:
            found |= set(np.unique(np.asarray(picture)).tolist())
    assert found
    assert found <= {0, 255}


def test_the_mask_is_the_class(place: Path) -> None:
    source = open_dataset("folder", place / "shapes/source")
    with Image.open(place / "shapes/source/masks/000.png") as mask:
        np.testing.assert_array_equal(source.label(0) == 1, np.asarray(mask) == 255)
    assert source.label_space.names == ("background", "circle")
    assert (place / "shapes/source.png").is_file()
