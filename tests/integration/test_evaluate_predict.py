"""``iccld evaluate`` and ``iccld predict`` from the command line, with a small untrained model on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from iccld.cli import main
from iccld.data.image_files import read_image, read_label
from iccld.drawing import colorize, overlay
from iccld.labels import CAMVID11, CITYSCAPES19, LabelSpace
from iccld.models.iccld import ICCLD

SIZES = {"a": (40, 64), "b": (48, 56), "c": (40, 64)}


def save_model(folder: Path, space: LabelSpace) -> str:
    torch.manual_seed(0)
    ICCLD(space, width=16, latent_channels=4).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("model"), CITYSCAPES19)


@pytest.fixture(scope="module")
def camvid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images in CamVid's folders; the label maps hold trainIds."""
    root = tmp_path_factory.mktemp("camvid")
    rng = np.random.default_rng(0)
    for name, (height, width) in SIZES.items():
        blocks = rng.choice([0, 1, 2, 4, 5, 7, 8, 10, 11, 12, 13, 255], (height // 8, width // 8)).astype(
            np.uint8
        )
        labels = np.kron(blocks, np.ones((8, 8), np.uint8))
        image = colorize(labels, CITYSCAPES19) // 2 + rng.integers(0, 100, (height, width, 3), dtype=np.uint8)
        for kind, picture in (("images", image), ("labels", labels)):
            (root / "val" / kind).mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(root / "val" / kind / f"{name}.png"), picture)
    return root


def run(*words: object) -> int:
    return main([str(word) for word in words])


def refuse(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Runs what the user can mend; gives the one line it says."""
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert error.startswith("iccld: error: ")
    assert error.count("\n") == 1
    return error


# -- evaluate ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["cityscapes19", "synthia13", "camvid11"])
def test_a_model_scores_as_the_label_maps_that_it_writes(
    model: str, camvid: Path, tmp_path: Path, protocol: str, capsys: pytest.CaptureFixture[str]
):
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    scripted = ("--dataset", "camvid", "--root", camvid, "--split", "val", "--protocol", protocol)
    assert run("evaluate", model, *scripted, "--json", one) == 0
    assert run("predict", model, camvid / "val" / "images", "--out", tmp_path / "p", "--write", "labels") == 0
    folders = ("--predictions", tmp_path / "p" / "labels", "--labels", camvid / "val" / "labels")
    assert run("evaluate", *folders, "--protocol", protocol, "--json", two) == 0
    first, second = json.loads(one.read_text()), json.loads(two.read_text())
    for key in ("miou", "iou", "pixel_accuracy", "confusion", "classes", "num_images", "protocol"):
        assert first[key] == second[key], key
    assert first["num_images"] == 3
    assert (first["model"], first["dataset"], first["split"]) == (model, "camvid", "val")
    assert f"mIoU {first['miou']:.1f} %" in capsys.readouterr().out


def test_the_protocol_follows_the_classes_of_the_model(camvid: Path, tmp_path: Path):
    for space, expected in (
        (CAMVID11, "camvid11"),
        (LabelSpace.from_names("two", ["road", "car"]), "custom:two"),
    ):
        folder = save_model(tmp_path / space.name, space)
        assert (
            run("evaluate", folder, "--dataset", "camvid", "--root", camvid, "--json", tmp_path / "s.json")
            == 0
        )
        assert json.loads((tmp_path / "s.json").read_text())["protocol"] == expected


def test_data_sets_of_fewer_classes_are_evaluated_in_their_classes(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A model of 19 classes on a data set that has four of them: probabilities are summed by itself, or by --map."""
    rng = np.random.default_rng(0)
    root = tmp_path / "four"
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
    assert cv2.imwrite(str(root / "images" / "a.png"), rng.integers(0, 256, (40, 64, 3), dtype=np.uint8))
    labels = rng.integers(0, 4, (5, 8), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    assert cv2.imwrite(str(root / "labels" / "a.png"), labels)
    names = ["road", "building", "sky", "car"]
    ids = "\n".join(f'{index} = "{name}"' for index, name in enumerate(names))
    start = f'name = "four"\nimages = "images/*.png"\nlabels = "labels/*.png"\nclasses = {names}\n'
    (root / "dataset.toml").write_text(f"{start}[ids]\n{ids}\n")
    scores = tmp_path / "s.json"
    data = ("--dataset", "folder", "--root", root)
    assert run("evaluate", model, *data, "--json", scores) == 0
    assert "the model's 19 classes are mapped to the 4 classes of four" in capsys.readouterr().out
    found = json.loads(scores.read_text())
    assert (found["classes"], found["protocol"]) == (names, "custom:four")
    own = ICCLD.from_pretrained(model).predict(root / "images" / "a.png")
    chosen = own.probabilities[[CITYSCAPES19.names.index(name) for name in names]].argmax(axis=0)
    assert found["pixel_accuracy"] == pytest.approx(100 * (chosen == labels).mean(), abs=0.01)

    rest = [name for name in CITYSCAPES19.names if name != "road"]
    (tmp_path / "two.toml").write_text(f'[classes]\nroad = ["road"]\nrest = {rest}\n')
    words = ("--map", tmp_path / "two.toml", "--out", tmp_path / "p", "--ids", "index")
    assert run("predict", model, root / "images", *words) == 0
    assert [c["name"] for c in json.loads((tmp_path / "p" / "classes.json").read_text())] == ["road", "rest"]
    road = own.probabilities[0] > 0.5
    np.testing.assert_array_equal(read_label(tmp_path / "p" / "labels" / "a.png") == 0, road)
    error = refuse(capsys, "predict", model, root / "images", "--map", "camvid", "--out", tmp_path / "q")
    assert "did you mean 'camvid11'" in error
    error = refuse(
        capsys, "predict", model, root / "images", "--map", tmp_path / "no.toml", "--out", tmp_path / "q"
    )
    assert "no.toml" in error


def test_classes_that_the_model_lacks_are_named(
    camvid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = save_model(tmp_path / "model", LabelSpace.from_names("most", CITYSCAPES19.names[:18]))
    data = (
        "--dataset",
        "camvid",
        "--root",
        camvid,
        "--protocol",
        "cityscapes19",
        "--json",
        tmp_path / "s.json",
    )
    assert run("evaluate", folder, *data) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert warnings == ["iccld: warning: the model has no class for bicycle (cityscapes19)"]
    assert json.loads((tmp_path / "s.json").read_text())["iou"]["bicycle"] is None  # nor is one in the images


def test_sizes_windows_and_limits(model: str, camvid: Path, tmp_path: Path):
    flags = ("--resize", 32, 64, "--limit", 2, "--steps", 2, "--draws", 2, "--device", "cpu", "--threads", 1)
    window = ("--window", 32, 32, "--overlap", 0.5)
    file = tmp_path / "deep" / "scores.json"
    assert (
        run("evaluate", model, "--dataset", "camvid", "--root", camvid, *flags, *window, "--json", file) == 0
    )
    value = json.loads(file.read_text())
    counted = sum(map(sum, value["confusion"]))
    truth = [read_label(camvid / "val" / "labels" / f"{name}.png") for name in ("a", "b")]
    assert counted == sum(int((label != 255).sum()) for label in truth)
    assert (value["num_images"], value["resize"], value["window"]) == (2, [32, 64], [32, 32])


def test_street_scenes_need_no_files(model: str, tmp_path: Path):
    words = ("--dataset", "street_scenes", "--limit", 2, "--json", tmp_path / "s.json")
    assert run("evaluate", model, *words, "--look", "game") == 0
    game = json.loads((tmp_path / "s.json").read_text())
    assert run("evaluate", model, *words) == 0
    camera = json.loads((tmp_path / "s.json").read_text())
    assert (game["look"], camera["look"], game["num_images"]) == ("game", "camera", 2)
    assert game["confusion"] != camera["confusion"]


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        ("--predictions {camvid} --labels {camvid} --protocol camvid11 --map camvid11", "--map"),
        ("--predictions {camvid} --labels {camvid} --protocol camvid11 --limit 2", "--limit"),
        ("MODEL --dataset street_scenes --root {camvid}", "--root"),
        ("MODEL --dataset camvid --root {camvid} --look night", "--look"),
    ],
)
def test_flags_without_effect_are_refused(
    model: str, camvid: Path, capsys: pytest.CaptureFixture[str], words: str, flag: str
):
    given = words.format(camvid=camvid).replace("MODEL", model).split()
    assert f"{flag} has no effect here" in refuse(capsys, "evaluate", *given)


def test_evaluate_is_called_in_one_of_two_ways(
    model: str, camvid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data = ("--dataset", "camvid", "--root", camvid)
    labels = camvid / "val" / "labels"
    for words, message in (
        ((), "nothing to measure"),
        ((model,), "the data set is missing"),
        (data, "nothing to measure"),
        (("--predictions", labels), "--predictions needs --predictions and --labels"),
        (
            (model, *data, "--predictions", labels, "--labels", labels),
            "MODEL and --predictions exclude each other",
        ),
        (
            ("--predictions", labels, "--labels", labels, *data),
            "--dataset and --predictions exclude each other",
        ),
    ):
        line = refuse(capsys, "evaluate", *words)
        assert message in line
        assert "iccld evaluate MODEL --dataset NAME --root DIR" in line
        assert "iccld evaluate --predictions DIR --labels DIR" in line
    for words, message in (
        (("--predictions", labels, "--labels", labels), "label maps need a --protocol"),
        (("--predictions", labels, "--labels", labels, "--protocol", "camvid"), "did you mean 'camvid11'"),
        ((model, *data, "--protocol", "cityscape19"), "did you mean 'cityscapes19'"),
        ((model, *data, "--steps", 0), "--steps = 0 must be"),
        ((model, *data, "--limit", 0), "--limit = 0 must be"),
        ((model, *data, "--device", "tpu"), "device 'tpu' cannot be used"),
        ((model, *data, "--threads", -1), "--threads = -1 must be"),
        ((model, "--dataset", "camvid", "--root", tmp_path), str(tmp_path)),
        ((model, "--dataset", "camvids", "--root", camvid), "did you mean 'camvid'"),
        ((tmp_path / "nothing", *data), "nothing"),
    ):
        assert message in refuse(capsys, "evaluate", *words)


# -- predict -----------------------------------------------------------------------------------------


def test_predictions_are_those_of_the_library(model: str, camvid: Path, tmp_path: Path):
    flags = ("--steps", 2, "--draws", 3, "--seed", 5, "--window", 32, 32, "--overlap", 0.5)
    assert run("predict", model, camvid / "val" / "images" / "b.png", "--out", tmp_path, *flags) == 0
    image = read_image(camvid / "val" / "images" / "b.png")
    network = ICCLD.from_pretrained(model)
    expected = network.predict(image, steps=2, draws=3, seed=5, window=(32, 32), overlap=0.5)
    assert np.array_equal(read_label(tmp_path / "labels" / "b.png"), expected.labels)
    assert np.array_equal(read_image(tmp_path / "color" / "b.png"), colorize(expected.labels, CITYSCAPES19))
    assert np.array_equal(
        read_image(tmp_path / "overlay" / "b.png"), overlay(image, expected.labels, CITYSCAPES19)
    )
    heat = read_image(tmp_path / "uncertainty" / "b.png").astype(int).sum(-1)
    assert np.corrcoef(heat.ravel(), expected.uncertainty.ravel())[0, 1] > 0.9


def test_a_corrupt_file_is_named_at_the_end_and_the_others_are_done(
    model: str, camvid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    photos = tmp_path / "photos" / "city"
    photos.mkdir(parents=True)
    whole = (camvid / "val" / "images" / "a.png").read_bytes()
    (photos / "good.png").write_bytes(whole)
    (photos / "broken.png").write_bytes(whole[: len(whole) // 2])
    assert run("predict", model, tmp_path / "photos", "--out", tmp_path / "out", "--write", "color") == 1
    captured = capsys.readouterr()
    assert "1 image predicted" in captured.out
    assert captured.err.splitlines()[0] == "iccld: 1 of 2 images could not be predicted:"
    assert str(photos / "broken.png") in captured.err.splitlines()[1]
    assert [p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*/*.png")] == [
        "color/city/good.png"
    ]


def test_bad_inputs_are_refused_before_any_work(
    model: str, camvid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    image, out = camvid / "val" / "images" / "a.png", tmp_path / "out"
    for words, message in (
        ((model, image, tmp_path / "gone.png"), "gone.png: no such file"),
        ((model, tmp_path / "*.jpg"), "matches no image"),
        ((model, image, "--write"), "--write names nothing"),
        ((model, image, "--overlap", 1), "overlap = 1.0 must be"),
        ((model,), "no input"),
        ((tmp_path / "no_model", image), "no_model"),
    ):
        assert message in refuse(capsys, "predict", *words, "--out", out)
    assert not out.exists()


def test_predictions_are_never_inputs_nor_over_files_of_others(
    model: str, camvid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    photos = tmp_path / "photos"
    (photos / "labels").mkdir(parents=True)
    for name in ("a", "labels/b"):
        (photos / f"{name}.png").write_bytes((camvid / "val" / "images" / "a.png").read_bytes())
    before = sorted(tmp_path.rglob("*"))
    for out, inputs in (
        (photos, photos),
        (tmp_path, photos),
        (photos, photos / "*.png"),
        (photos, photos / "a.png"),
    ):
        assert "the input" in refuse(capsys, "predict", model, inputs, "--out", out)
        assert "the input" in refuse(capsys, "rank", model, inputs, "--out", out)
    assert f"{photos / 'x.json'}: lies in the data folder" in refuse(
        capsys, "predict", model, photos, "--out", tmp_path / "out", "--json", photos / "x.json"
    )
    assert sorted(tmp_path.rglob("*")) == before
    for out in (photos / "one", photos / "two", photos / "one"):  # below the inputs, and left out of them
        assert run("predict", model, photos, "--out", out, "--write", "labels") == 0
        assert sorted(
            p.relative_to(out).as_posix() for p in out.rglob("*.png") if p.name != "legend.png"
        ) == [
            "labels/a.png",
            "labels/labels/b.png",
        ]
    theirs = tmp_path / "theirs" / "classes.json"
    theirs.parent.mkdir()
    theirs.write_text("theirs")
    line = refuse(capsys, "predict", model, photos / "a.png", "--out", theirs.parent)
    assert "theirs: is not empty (classes.json) and holds no predictions of iccld" in line
    assert os.listdir(theirs.parent) == ["classes.json"]
    assert theirs.read_text() == "theirs"


def test_as_a_program(model: str, camvid: Path, tmp_path: Path):
    """The module is run as users run it; its progress and its table are plain text in a pipe."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "OMP_NUM_THREADS": "1",
    }
    words = ["evaluate", model, "--dataset", "camvid", "--root", str(camvid), "--protocol", "camvid11"]
    done = subprocess.run(
        [sys.executable, "-m", "iccld", *words],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines()[0].split() == ["class", "IoU", "%", "accuracy", "%"]
    assert done.stdout.splitlines()[-1].endswith("(camvid11, 3 images)")
