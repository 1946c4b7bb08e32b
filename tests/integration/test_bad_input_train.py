"""What ``iccld train`` says when it cannot go on: one line, code 2 for a mistake and 1 for a failure, nothing lost."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from iccld.adaptation.losses import SupervisedLoss
from iccld.cli import main
from iccld.training.checkpoint import load_newest
from iccld.training.update import Update

Flags = Callable[..., list[str]]
Refuse = Callable[..., str]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands without ``--out`` look into ``runs``, where the demo of this clone may lie."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str]) -> Refuse:
    """Runs a command that has to fail and gives the one line that says why."""

    def run(words: list[str], code: int = 2) -> str:
        capsys.readouterr()
        assert main(words) == code
        errors = capsys.readouterr().err
        lines = [line for line in errors.splitlines() if line.startswith("iccld: error: ")]
        assert len(lines) == 1, errors
        assert "Traceback" not in errors
        return lines[0]

    return run


# -- before anything is done -----------------------------------------------------------------------


def test_unknown_preset(refuse: Refuse) -> None:
    assert "unknown preset 'gta-to-cityscapes'; did you mean 'gta5_to_cityscapes'?" in refuse(
        ["train", "gta-to-cityscapes"]
    )


def test_a_method_of_mixed_images_without_mixing(refuse: Refuse) -> None:
    words = ["train", "demo", "--method", "dacs", "--adaptation.mixing", "none"]
    assert "--method dacs learns from mixed images: give --adaptation.mixing classmix or cutmix" in refuse(
        words
    )


def test_no_preset(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 2
    assert "scenes_to_camvid" in capsys.readouterr().err
    assert main(["train", "--help"]) == 0
    assert "scenes_to_camvid" in capsys.readouterr().out
    assert main(["train", "--steps", "3"]) == 2


def test_help_of_a_preset_shows_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", "scenes_to_camvid", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "--data.target-root" in text
    assert "data/camvid" in text


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_that_is_not_installed_starts_nothing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    assert main(["train", "demo", "--trackers", name, "--out", str(tmp_path / "run")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert f"pip install '.[{name}]'" in captured.err
    assert not (tmp_path / "run").exists()


def test_unknown_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "demo", "--data.batchsize", "3"]) == 2
    assert capsys.readouterr().err == (
        "iccld: error: Unrecognized options: --data.batchsize, 3; Perhaps you meant: --data.batch-size INT; "
        "see iccld train demo --help\n"
    )


@pytest.mark.parametrize(
    "words",
    [
        "--steps 0",
        "--checkpoint-every 0",
        "--log-every 0",
        "--eval-every -1",
        "--seed -1",
        "--stop-at 0",
        "--threads -2",
        "--data.batch-size 0",
        "--data.num-workers -1",
        "--data.rare-class-temperature 0",
        "--data.crop 16 64",
        "--data.source-size 10 10",
        "--data.scale 2 1",
        "--data.scale 0 1",
        "--data.ignore-top 1.5",
        "--data.ignore-top 0.6 --data.ignore-bottom 0.5",
        "--model.latent-channels 0",
        "--model.width -3",
        "--optim.grad-clip 0",
        "--optim.head-lr -1",
        "--optim.head-lr nan",
        "--data.cat-max-ratio 0",
        "--optim.accumulation 0",
        "--adaptation.teacher-steps 0",
        "--adaptation.teacher-decay 1.5",
        "--adaptation.threshold 2",
        "--adaptation.self-aligned -0.1",
        "--adaptation.adversarial-weight -1",
    ],
)
def test_settings_that_cannot_work(words: str, flags: Flags, refuse: Refuse, tmp_path: Path) -> None:
    line = refuse(flags(tmp_path / "run", *words.split()))
    assert words.split()[0] in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model.backbone efficientnet", "did you mean 'efficientnet_lite0'"),
        ("--model.backbone compact --model.pretrained yes", "has no pretrained weights"),
        ("--model.backbone mit_b0 --model.pretrained ./nowhere", "cannot be read"),
        ("--data.label-space cityscapes", "did you mean 'cityscapes19'"),
        ("--data.source gta", "did you mean 'gta5'"),
        ("--data.source-root nowhere", "nowhere: no such folder"),
        ("--data.source camvid --data.source-split tain", "did you mean 'train'"),
        ("--device tpu", "choose auto, cpu, cuda or mps"),
    ],
)
def test_things_that_do_not_exist(
    words: str, message: str, flags: Flags, refuse: Refuse, tmp_path: Path
) -> None:
    assert message in refuse(flags(tmp_path / "run", *words.split()))


def test_a_backbone_that_brings_code_is_refused_and_not_asked_about(
    flags: Flags, refuse: Refuse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "modeling_evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    text = '{"model_type": "evil", "auto_map": {"AutoConfig": "modeling_evil.C", "AutoBackbone": "modeling_evil.M"}}'
    (folder / "config.json").write_text(text)
    monkeypatch.setattr("builtins.input", lambda *words: pytest.fail("asked"))
    for words in (
        ("--model.backbone", f"auto:{folder}"),
        ("--model.backbone=mit_b0", f"--model.pretrained={folder}"),
    ):
        assert "'auto_map', which may run code" in refuse(flags(tmp_path / "run", *words))
    assert not (tmp_path / "ran").exists()


def test_a_backbone_without_weights_says_that_it_starts_from_scratch(
    flags: Flags, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import ConvNextV2Config

    ConvNextV2Config(hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1]).save_pretrained(tmp_path / "bare")
    words = ("--model.backbone", f"auto:{tmp_path / 'bare'}", "--model.width", "16", "--stop-at", "1")
    assert main(flags(tmp_path / "run", *words)) == 0
    assert capsys.readouterr().err.count("starts from random weights (from scratch)") == 1


def test_source_without_labels(flags: Flags, refuse: Refuse, tiny_data: Path, tmp_path: Path) -> None:
    root = tmp_path / "bare"
    shutil.copytree(tiny_data / "source" / "train" / "images", root)
    words = flags(tmp_path / "run")
    words[words.index("--data.source-root") + 1] = str(root)
    assert "labels are needed" in refuse(words)


def test_folder_that_is_a_file(flags: Flags, refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    line = refuse(flags(tmp_path / "run"))
    assert "is a file; give the name of a folder" in line
    assert (tmp_path / "run").read_text() == "mine"


# -- a folder that holds something else --------------------------------------------------------------


def test_other_settings_in_the_same_folder(flags: Flags, refuse: Refuse, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert main(flags(out, "--method", "source_only", "--stop-at", "1")) == 0
    before = (out / "run.json").read_text()
    line = refuse(flags(out, "--method", "source_only", "--optim.head-lr", "0.5"))
    assert re.search(r"holds a run with other settings \(optim\.head_lr was 0\.\d+, now 0\.5\)", line)
    assert "choose another --out" in line
    line = refuse(flags(out, "--method", "oracle"))
    assert "method was source_only, now oracle" in line
    assert (out / "run.json").read_text() == before


def test_cache_may_come_and_go_unless_it_changes_images(flags: Flags, refuse: Refuse, tmp_path: Path) -> None:
    words, cache = ("--method", "source_only"), ("--data.cache", str(tmp_path / "cache"))
    for name, scale in (("plain", ("1", "1")), ("scaled", ("0.8", "1.4"))):
        run = flags(tmp_path / name, *words, "--data.scale", *scale)
        assert main([*run, "--stop-at", "1"]) == 0
        if name == "plain":
            assert main([*run, "--stop-at", "2", *cache]) == 0
            assert list((tmp_path / "cache").glob("*/*.npy"))
        else:
            assert "other settings (data.cache was None" in refuse([*run, "--stop-at", "2", *cache])


@pytest.mark.parametrize("text", ["", "[]", '{"stepz": 1}', '{"data": 3}', "null"])
def test_unreadable_settings(text: str, flags: Flags, refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(text)
    assert "run.json: cannot be read" in refuse(flags(tmp_path / "run"))


def test_checkpoint_of_another_network(flags: Flags, refuse: Refuse, tmp_path: Path) -> None:
    out, other = tmp_path / "run", tmp_path / "other"
    words = ("--method", "source_only", "--stop-at", "1")
    assert main(flags(out, *words)) == 0
    assert main(flags(other, *words, "--model.width", "24")) == 0
    shutil.copytree(other / "checkpoints", out / "checkpoints", dirs_exist_ok=True)
    assert "its checkpoint does not fit this configuration" in refuse(flags(out, "--method", "source_only"))


# -- in the middle of the work ------------------------------------------------------------------------


def _spoil(monkeypatch: pytest.MonkeyPatch, after: int, how: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Makes the supervised loss something else in updates after a number of steps, and not in trials of the machine."""
    original, update, steps = SupervisedLoss.__call__, Update.__call__, [-1]

    def updating(self: Update, step: int, *arguments: Any) -> Any:
        steps[0] = step
        try:
            return update(self, step, *arguments)
        finally:
            steps[0] = -1

    def spoiled(self: SupervisedLoss, *arguments: Any, **more: Any) -> Any:
        terms, logs = original(self, *arguments, **more)
        return ({name: how(loss) for name, loss in terms.items()} if steps[0] >= after else terms), logs

    monkeypatch.setattr(Update, "__call__", updating)
    monkeypatch.setattr(SupervisedLoss, "__call__", spoiled)


@pytest.mark.parametrize(
    ("what", "how"),
    [
        ("loss", lambda loss: loss * float("nan")),
        ("gradient", lambda loss: loss + (loss - loss.detach()).sqrt()),  # its value is finite
    ],
)
def test_loss_or_gradient_that_is_no_number(
    what: str,
    how: Callable[[torch.Tensor], torch.Tensor],
    flags: Flags,
    refuse: Refuse,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    words = flags(out, "--method", "source_only", "--checkpoint-every", "1", "--data.batch-size", "2")
    with monkeypatch.context() as patch:
        _spoil(patch, 2, how)
        line = refuse(words, 1)
    assert f"the {what} of step 3 is " in line
    assert line.count(".png") == 2, "names the files of the batch"
    assert str(out / "checkpoints" / "step-00000002.safetensors") in line
    assert "lower --optim.head-lr" in line
    checkpoint = load_newest(out / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.step == 2
    assert all(bool(torch.isfinite(v).all()) for v in checkpoint.tensors.values())
    assert main(words) == 0, "and goes on once the cause is gone"


def test_absurd_learning_rate(flags: Flags, refuse: Refuse, tmp_path: Path) -> None:
    line = refuse(flags(tmp_path / "run", "--optim.head-lr", "1e30", "--optim.backbone-lr", "1e30"), 1)
    assert "of step 2 is " in line
    assert "no checkpoint was written yet" in line
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("where", ["step-00000006.safetensors", "metrics.csv", "model.safetensors"])
def test_full_disk(
    where: str, flags: Flags, refuse: Refuse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    words = flags(out, "--method", "source_only")
    original = os.replace

    def replace(source: str | Path, target: str | Path) -> None:
        if Path(target).name == where and (where != "metrics.csv" or (out / "checkpoints").exists()):
            raise OSError(errno.ENOSPC, "No space left on device")
        original(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        line = refuse(words, 1)
    assert "the disk is full; free some space and run the same command again" in line
    assert where in line
    checkpoint = load_newest(out / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.step == (6 if where == "model.safetensors" else 3)
    assert not [path for path in out.rglob("*") if ".tmp" in path.name]
    assert main(words) == 0
    assert (out / "model.safetensors").is_file()


@pytest.mark.parametrize("workers", ["0", "1"])
def test_damaged_image_met_while_training(
    workers: str, flags: Flags, refuse: Refuse, tiny_data: Path, tmp_path: Path
) -> None:
    root = tmp_path / "source"
    shutil.copytree(tiny_data / "source", root)
    damaged = root / "train" / "images" / "2.png"
    damaged.write_bytes(damaged.read_bytes()[:100])
    words = flags(tmp_path / "run", "--data.num-workers", workers, "--data.no-rare-class-sampling")
    words[words.index("--data.source-root") + 1] = str(root)
    assert "2.png" in refuse(words)


def test_image_and_label_of_two_sizes(flags: Flags, refuse: Refuse, tiny_data: Path, tmp_path: Path) -> None:
    root = tmp_path / "source"
    shutil.copytree(tiny_data / "source", root)
    assert cv2.imwrite(str(root / "train" / "labels" / "1.png"), np.zeros((50, 50), np.uint8))
    words = flags(tmp_path / "run")
    words[words.index("--data.source-root") + 1] = str(root)
    line = refuse(words)
    assert "labels/1.png" in line
    assert "50×50" in line


def test_settings_of_the_run_are_kept_as_they_were_given(flags: Flags, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert main(flags(out, "--stop-at", "1", "--seed", "7")) == 0
    stored = json.loads((out / "run.json").read_text())
    assert (stored["seed"], stored["preset"], stored["data"]["crop"]) == (7, "demo", [64, 64])
