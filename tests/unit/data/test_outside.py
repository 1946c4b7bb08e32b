"""Data sets of other packages: training and evaluation by name, and what they may return."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from iccld import plugins
from iccld.cli import main
from iccld.data.datasets import open_dataset
from iccld.errors import InputError
from iccld.labels import CAMVID11, CITYSCAPES19

MODULE = """
from pathlib import Path
import numpy as np
from iccld.labels import CAMVID11
Path(__file__).with_name("imported").touch()
class Stripes:
    name, label_space, has_labels = "stripes", CAMVID11, True
    def __init__(self, root, split):
        self.root, self.split = root, split
    def __len__(self):
        return {"train": 4, "val": 2}.get(self.split, 0)
    def label(self, index):
        label = np.full((48, 64), CAMVID11.names.index("road"), np.uint8)
        label[:20 + index] = CAMVID11.names.index("sky")
        label[20 + index] = 255
        return label
    def image(self, index):
        return np.array([*CAMVID11.palette, *[(0, 0, 0)] * 245], np.uint8)[self.label(index)]
    def file_name(self, index):
        return f"{self.split}{index}"
class Unlabeled(Stripes):
    has_labels = False
class Floats(Stripes):
    def image(self, index):
        return super().image(index) / 255
class TooMany(Stripes):
    def label(self, index):
        return np.full((48, 64), 40, np.uint8)
class Incomplete:
    name, label_space, has_labels = "incomplete", CAMVID11, True
    def __init__(self, root, split): pass
class NoArguments(Stripes):
    def __init__(self): pass
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "striped.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_imported", {})
    yield tmp_path
    sys.modules.pop("striped", None)


def test_labels_are_those_of_the_wanted_label_space() -> None:
    plugins.import_class("dataset", "striped:Stripes")
    own = open_dataset("striped:Stripes", "somewhere", split="val")
    other = open_dataset("striped:Stripes", None, split="val", label_space=CITYSCAPES19)
    assert (own.name, len(own), own.file_name(1), own.label_space) == ("stripes", 2, "val1", CAMVID11)
    names = {own.label_space.names[i] for i in np.unique(own.label(0)) if i != 255}
    assert (
        names
        == {other.label_space.names[i] for i in np.unique(other.label(0)) if i != 255}
        == {"road", "sky"}
    )
    np.testing.assert_array_equal(own.label(0) == 255, other.label(0) == 255)
    assert own.image(0).shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("Floats", "train", r"image train0: its image is float64 of shape \(48, 64, 3\); return uint8"),
        ("TooMany", "train", "has a label that is none of the 11 classes"),
        ("Incomplete", "train", "is no data set; it needs name"),
        ("NoArguments", "train", "cannot be called with root and split"),
        ("Unlabeled", "train", "has no labels in split 'train'"),
        ("Stripes", "test", "has no image in split 'test'"),
    ],
)
def test_faults_are_one_line(name: str, split: str, message: str) -> None:
    plugins.import_class("dataset", f"striped:{name}")

    def use() -> None:
        dataset = open_dataset(f"striped:{name}", split=split)
        assert dataset.image(0).shape[:2] == dataset.label(0).shape

    with pytest.raises(InputError, match=message):
        use()


def test_a_plan_or_record_imports_nothing(folder: Path) -> None:
    with pytest.raises(InputError, match="set ICCLD_IMPORT=striped:Stripes, or install"):
        open_dataset("striped:Stripes")
    assert not (folder / "imported").exists()


@pytest.mark.slow
def test_training_and_evaluation_by_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, scores = folder / "run", folder / "scores.json"
    words = "--steps 2 --data.crop 32 32 --data.batch-size 1 --data.num-workers 0 --model.backbone compact"
    words += " --model.width 16 --threads 1 --data.source striped:Stripes --data.target striped:Unlabeled"
    words += " --data.source-size 48 64 --data.target-size 48 64 --precision fp32"
    assert main(["train", "demo", *words.split(), "--out", str(out)]) == 0
    assert "4 images of stripes, 11 classes" in capsys.readouterr().out
    words = f"evaluate {out} --dataset striped:Stripes --json {scores} --threads 1"
    assert main(words.split()) == 0
    assert json.loads(scores.read_text())["miou"] >= 0
    assert "2 images" in capsys.readouterr().out
