"""The examples of docs/extending.md, run as they are printed."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch

from iccld import plugins
from iccld.adaptation.method import Batch, Method
from iccld.cli import main
from iccld.data import layouts
from iccld.data.datasets import FileDataset, find_files, open_dataset
from iccld.data.interface import SegmentationDataset
from iccld.inference.evaluation import evaluate_model
from iccld.labels import CITYSCAPES19, PROTOCOLS
from iccld.models import image_coder
from iccld.models.iccld import ICCLD
from iccld.training.tracking import read_metrics

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """A module of all Python examples of the page."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    path = tmp_path_factory.mktemp("page") / "extending_page.py"
    path.write_text("\n".join(["from __future__ import annotations", *blocks]), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path.parent)
        yield importlib.import_module(path.stem)
        patch.delitem(sys.modules, path.stem)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def test_described_folder(tmp_path: Path) -> None:
    toml = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)[0]
    (tmp_path / "dataset.toml").write_text(toml, encoding="utf-8")
    save(tmp_path / "camera/monday/1.jpg", np.zeros((8, 5, 3), np.uint8))
    save(tmp_path / "masks/monday/1.png", np.array([[1, 2, 7, 0, 255]] * 8, np.uint8))
    dataset = open_dataset("folder", tmp_path)
    assert dataset.label_space.names == ("road", "person", "forklift")
    assert dataset.label(0)[0].tolist() == [0, 1, 2, 255, 255]


def test_public_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tomllib.loads(re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)[1])
    known = layouts.tables()
    monkeypatch.setattr(layouts, "tables", lambda: {**known, **table})
    save(tmp_path / "images/10k/val/a.jpg", np.zeros((4, 4, 3), np.uint8))
    save(tmp_path / "labels/sem_seg/masks/val/a.png", np.full((4, 4), 13, np.uint8))
    dataset = FileDataset(find_files("bdd100k", tmp_path, "val", True), CITYSCAPES19)
    assert dataset.name == "bdd100k"
    assert np.unique(dataset.label(0)).tolist() == [13]


def test_dataset_without_files_can_be_measured(examples: ModuleType) -> None:
    dataset = examples.Stripes()
    assert isinstance(dataset, SegmentationDataset)
    model = ICCLD(CITYSCAPES19, width=48).eval()
    scores = evaluate_model(model, dataset, PROTOCOLS["cityscapes19"], indices=range(2))
    assert 0 <= scores.miou <= 100


def test_backbone_trains_inside_the_model(examples: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_coder, "CompactCoder", examples.Plain)
    model = ICCLD(CITYSCAPES19, width=48)
    assert isinstance(model.image_coder, examples.Plain)
    features = model.image_coder(torch.rand(1, 3, 64, 96))
    assert {stride: tuple(f.shape[-2:]) for stride, f in features.items()} == {
        stride: (64 // stride, 96 // stride) for stride in (2, 4, 8, 16, 32)
    }
    output = model(
        torch.rand(1, 3, 64, 96), torch.zeros(1, 64, 96, dtype=torch.long), torch.ones(1), torch.zeros(1) > 0
    )
    output.logits.square().mean().backward()
    for name, parameter in model.image_coder.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("step", [0, 300])
def test_method_gives_a_loss_that_reaches_the_student_alone(examples: ModuleType, step: int) -> None:
    torch.manual_seed(0)
    student, teacher = ICCLD(CITYSCAPES19, width=48), ICCLD(CITYSCAPES19, width=48)
    batch = Batch(
        torch.rand(2, 3, 32, 64),
        torch.randint(19, (2, 32, 64)),
        torch.rand(2, 3, 32, 64),
        torch.ones(2, 32, 64, dtype=torch.bool),
    )
    method = examples.Unmixed()
    assert isinstance(method, Method)
    result = method.segmenter_step(student, teacher, None, batch, step)
    for name in ("seg", "denoising", "reconstruction"):
        assert f"{name}_source" in result.terms
        assert (f"{name}_target" in result.terms) == (step >= 300)
    result.loss.backward()
    assert torch.isfinite(result.loss)
    gradient = student.image_coder.stem.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_method_of_another_package_trains_and_resumes(
    flags: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The page's ``unmixed.py``, named by ``--method``, in at most 40 lines."""
    (file,) = (x for x in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL) if "# unmixed.py" in x)
    assert len(file.splitlines()) <= 40
    (tmp_path / "unmixed.py").write_text(file, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_imported", {})
    out = tmp_path / "run"
    words = flags(out, "--method", "unmixed:Unmixed")
    assert main([*words, "--stop-at", "3"]) == 0
    assert main(words) == 0
    assert "train/loss_seg_target" in read_metrics(out / "metrics.csv")[-1]
    assert main(["predict", str(out), str(out / "curves.png"), "--out", str(tmp_path / "masks")]) == 0
    capsys.readouterr()
    monkeypatch.setattr(plugins, "_imported", {})
    assert main(["report", str(out)]) == 0, "a report imports no method"
    assert not plugins._imported
    sys.modules.pop("unmixed")
