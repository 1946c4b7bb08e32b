"""``iccld push`` with a folder for the hub, and models taken by id from a cache on disk."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import cv2
import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import errors

from iccld.cli import main
from iccld.config import TrainConfig, to_dict
from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD

# The HTTP client that this version of the hub is built on.
httpx: Any = importlib.import_module(errors.HfHubHTTPError.__mro__[1].__module__.partition(".")[0])
FILES = ["README.md", "config.json", "model.safetensors", "preprocessor_config.json"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves: model, settings with a folder of the user's, figures."""
    folder = tmp_path_factory.mktemp("run")
    settings = to_dict(TrainConfig(steps=40, seed=3))
    settings["data"] |= {
        "target": "camvid",
        "target_root": "/home/me/secret",
        "target_split": "/home/me/secret/list.txt",
        "label_space": "camvid11",
    }
    settings["model"] |= {"pretrained": "~/secret/mit-b5", "backbone": "auto:/home/me/secret/dino"}
    facts = {"preset": "scenes_to_camvid", "step": 40, "weights": "ema_teacher", **settings}
    torch.manual_seed(0)
    ICCLD(CAMVID11, width=16, latent_channels=4).save_pretrained(folder, extra={"training": facts})
    (folder / "metrics.csv").write_text(
        "step,train/loss,val/iou/road,val/miou,val/pixel_accuracy\n20,2.5,99,99,99\n40,1.5,61.25,33.333,71.5\n"
    )
    return folder


class _Hub:
    """Stands for HfApi: repositories are folders."""

    root: ClassVar[Path]
    fails: ClassVar[dict[str, Exception]] = {}

    def __init__(self, token: str | None = None) -> None:
        pass

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
        if "create" in self.fails:
            raise self.fails["create"]
        (self.root / repo_id).mkdir(parents=True, exist_ok=exist_ok)
        (self.root / repo_id / ".private").write_text(str(private))
        return f"https://hub.example/{repo_id}"

    def upload_folder(self, *, repo_id: str, folder_path: str) -> None:
        if "upload" in self.fails:
            raise self.fails["upload"]
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(_Hub, "root", tmp_path / "hub", raising=False)
    monkeypatch.setattr(huggingface_hub, "HfApi", _Hub)
    return tmp_path / "hub"


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def _front_matter(card: str) -> Any:
    return yaml.safe_load(card.split("---\n")[1])


def test_no_path_of_this_machine_goes_out(run: Path, tmp_path: Path) -> None:
    assert main(["push", str(run), "me/streets", "--folder", str(tmp_path / "card")]) == 0
    config = (tmp_path / "card" / "config.json").read_text()
    card = (tmp_path / "card" / "README.md").read_text()
    assert "secret" not in config + card
    training = json.loads(config)["training"]
    assert training["data"]["target_root"] is None
    assert training["data"]["target_split"] == "list.txt"
    assert training["model"] | {"pretrained": "mit-b5", "backbone": "auto:dino"} == training["model"]


def test_files_of_others_are_not_replaced(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "README.md").write_text("precious")
    for folder in (tmp_path, run):
        before = sorted((path.name, path.read_bytes()) for path in folder.iterdir())
        assert main(["push", str(run), "me/streets", "--folder", str(folder)]) == 2
        assert sorted((path.name, path.read_bytes()) for path in folder.iterdir()) == before
        assert "choose another folder" in capsys.readouterr().err
    for _ in range(2):  # its own earlier files may be written again
        assert main(["push", str(run), "me/streets", "--folder", str(tmp_path / "card")]) == 0


def test_uploaded_model_is_the_model_with_its_card(
    run: Path, hub: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["push", str(run), "me/streets", "--private", "--license", "cc-by-nc-4.0"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "uploaded: https://hub.example/me/streets" in out
    repo = hub / "me" / "streets"
    assert _names(repo) == FILES
    assert (repo / ".private").read_text() == "True"
    assert (repo / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    assert ICCLD.from_pretrained(repo).label_space == CAMVID11
    assert "secret" not in "".join((repo / name).read_text() for name in FILES[:2])
    matter = _front_matter((repo / "README.md").read_text())
    assert (matter["library_name"], matter["pipeline_tag"]) == ("iccld", "image-segmentation")
    assert matter["license"] == "cc-by-nc-4.0"
    assert matter["model-index"][0]["results"][0]["metrics"][0]["value"] == 33.33


def test_card_has_the_figures_of_the_weights_and_no_others(run: Path, tmp_path: Path) -> None:
    assert main(["push", str(run), "me/streets", "--folder", str(tmp_path / "card")]) == 0
    assert _names(tmp_path / "card") == FILES
    card = (tmp_path / "card" / "README.md").read_text()
    for text in (
        "| road | 61.2 |",
        "| sidewalk | not measured |",
        "| **mIoU** | **33.3** |",
        "| pixel accuracy | 71.5 |",
        "split val; protocol camvid11",
        "| labeled data | street_scenes, game look (generated), split train |",
        "| unlabeled data | camvid, split list.txt |",
        "| seed | 3 (one run) |",
        "EMA teacher of step 40",
        "License: not stated.",
        "iccld predict me/streets IMAGES",
        'ICCLD.from_pretrained("me/streets")',
    ):
        assert text in card, text
    assert "99" not in card
    assert "license" not in _front_matter(card)


def test_card_of_a_model_without_a_run(tmp_path: Path) -> None:
    model = tmp_path / "model"
    ICCLD(CAMVID11, width=16, latent_channels=4).save_pretrained(model)
    assert main(["push", str(model), "me/streets", "--folder", str(tmp_path / "card")]) == 0
    card = (tmp_path / "card" / "README.md").read_text()
    assert "mIoU: not measured" in card
    assert "metrics" not in _front_matter(card)


def _http(kind: type[errors.HfHubHTTPError], status: int) -> Exception:
    response = httpx.Response(status, request=httpx.Request("POST", "https://hub.example"))
    return kind(f"{status} Client Error\nmore", response=response)


@pytest.mark.parametrize(
    ("stage", "error", "said"),
    [
        ("create", _http(errors.HfHubHTTPError, 401), "nothing was uploaded (there is no valid token; log in"),
        ("create", errors.LocalTokenNotFoundError("x"), "there is no valid token; log in with 'hf auth login'"),
        ("create", _http(errors.HfHubHTTPError, 403), "nothing was uploaded (your account may not do this"),
        ("create", httpx.ConnectError("no route to host"), "nothing was uploaded (no connection: no route"),
        ("create", errors.OfflineModeIsEnabled("x"), "nothing was uploaded (HF_HUB_OFFLINE is set)"),
        ("upload", httpx.ReadTimeout("timed out"), "the repository is there, but nothing was uploaded (no connection"),
        ("upload", _http(errors.RepositoryNotFoundError, 404), "there is no such repository"),
    ],
)  # fmt: skip
def test_failures_are_one_line(
    stage: str,
    error: Exception,
    said: str,
    run: Path,
    hub: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(_Hub, "fails", {stage: error})
    assert main(["push", str(run), "me/streets"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("iccld: error: me/streets: ")
    assert said in captured.err


@pytest.mark.parametrize("repo", ["streets", "a/b/c", "me/str eets", "./me", "me/streets@v1"])
def test_names_that_no_repository_has(
    repo: str, run: Path, hub: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(run), repo]) == 2
    assert f"{repo}: cannot be the name of a repository" in capsys.readouterr().err
    assert not hub.exists()


def test_a_model_that_cannot_be_loaded_is_not_uploaded(
    run: Path, hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    assert main(["push", str(broken), "me/streets"]) == 2
    assert "model.safetensors: truncated" in capsys.readouterr().err
    assert not hub.exists()


# -- by id ------------------------------------------------------------------------------------------


@pytest.fixture
def in_cache(run: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs calls of `iccld` where me/streets, with a tag v1, is in the hub's cache and there is no network."""
    repo = tmp_path / "cache" / "hub" / "models--me--streets"
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = repo / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for name in FILES[1:]:
        shutil.copy(run / name, snapshot / name)
    (repo / "refs").mkdir()
    for reference in ("main", "v1"):
        (repo / "refs" / reference).write_text(commit)

    def call(*calls: list[str]) -> subprocess.CompletedProcess[str]:
        code = f"from iccld.cli import main\nimport sys\nsys.exit(max([main(words) for words in {list(calls)!r}]))"
        environment = os.environ | {
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_CACHE": str(repo.parent),
        }
        return subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return call


def test_ids_are_taken_wherever_a_model_is(
    in_cache: Callable[..., subprocess.CompletedProcess[str]], run: Path, tmp_path: Path
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    assert cv2.imwrite(str(tmp_path / "a.png"), image)

    def predict(model: str, out: str) -> list[str]:
        return ["predict", model, "a.png", "--out", out, "--write", "labels", "--device", "cpu"]

    done = in_cache(
        predict("me/streets", "one"),
        predict("me/streets@v1", "two"),
        predict(str(run), "three"),
        ["push", "me/streets@v1", "you/copy", "--folder", "card"],
        predict("me/streets@v2", "four"),
        predict("me/roads", "five"),
    )
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 2, done.stderr
    for line, name in zip(lines, ("me/streets@v2", "me/roads"), strict=True):
        assert line.startswith(f"iccld: error: {name}: no such folder, and the hub could not give a model")
    labels = [(tmp_path / out / "labels" / "a.png").read_bytes() for out in ("one", "two", "three")]
    assert labels[0] == labels[1] == labels[2]
    assert json.loads((tmp_path / "card" / "config.json").read_text())["training"]["seed"] == 3
    assert not (tmp_path / "four").exists()
