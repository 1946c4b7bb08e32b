"""Object storage: URLs as inputs and outputs of commands, with the storage ``memory://`` of fsspec."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import fsspec
import numpy as np
import pytest

from iccld.cli import main
from iccld.labels import CAMVID11
from iccld.mirrors import local_copy
from iccld.models.iccld import ICCLD

STORE = fsspec.filesystem("memory")


@pytest.fixture(autouse=True)
def _empty_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ICCLD_CACHE", str(tmp_path / "copies"))
    STORE.store.clear()
    STORE.pseudo_dirs[:] = [""]
    yield
    STORE.store.clear()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    ICCLD(CAMVID11, width=16, latent_channels=4).save_pretrained(folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five images with labels in the layout of CamVid, on disk and in ``memory://bucket/camvid``."""
    rng = np.random.default_rng(0)
    for number in range(5):
        labels = np.kron(rng.choice([0, 1, 2, 8, 255], (5, 8)), np.ones((8, 8))).astype(np.uint8)
        image = rng.integers(0, 256, (*labels.shape, 3), dtype=np.uint8)
        for kind, picture in (("images", image), ("labels", labels)):
            path = tmp_path / "camvid" / "val" / kind / "day" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), picture)
    upload(tmp_path / "camvid", "bucket/camvid")
    return tmp_path / "camvid"


def upload(folder: Path, place: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            STORE.pipe_file(f"/{place}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def stored(place: str) -> dict[str, bytes]:
    return {path.removeprefix(f"/{place}/"): STORE.cat_file(path) for path in STORE.find(f"/{place}")}


def on_disk(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def run(*words: object) -> int:
    return main([*map(str, words), "--threads", "1", "--device", "cpu"])


def test_predictions_are_those_of_a_folder(model: Path, data: Path, tmp_path: Path) -> None:
    upload(model, "bucket/model")
    kinds = ("--write", "labels", "color", "overlay", "uncertainty", "coco")
    assert run("predict", model, data / "val" / "images", "--out", tmp_path / "out", *kinds) == 0
    url = "memory://bucket/camvid/val/images"
    assert run("predict", "memory://bucket/model", url, "--out", "memory://bucket/out", *kinds) == 0
    disk, store = on_disk(tmp_path / "out"), stored("bucket/out")
    assert disk.keys() == store.keys()
    differing = {name for name in disk if disk[name] != store[name]}
    assert differing == {name for name in disk if name.startswith("coco/")}
    coco = json.loads(store["coco/day/0.json"])
    assert coco["images"][0]["file_name"] == "memory://bucket/camvid/val/images/day/0.png"


@pytest.mark.parametrize("source", ["day/3.png", "day/*3.png", "**/*3.png"])
def test_one_image_and_patterns(source: str, model: Path, data: Path) -> None:
    url = f"memory://bucket/camvid/val/images/{source}"
    assert run("predict", model, url, "--out", "memory://o", "--write", "labels") == 0
    assert len([name for name in stored("o") if name.startswith("labels/")]) == 1


def test_outputs_below_the_inputs_are_no_inputs(
    model: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "memory://bucket/camvid/val/images"
    for out in ("first", "second"):
        assert run("predict", model, url, "--out", f"{url}/{out}", "--write", "labels") == 0
        assert "5 images predicted" in capsys.readouterr().out


def test_shards_continue_and_write_a_table(
    model: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("iccld.inference.blocks._BLOCK", 2)
    url = "memory://bucket/camvid/val/images"
    words = (
        "predict",
        model,
        url,
        "--write",
        "labels",
        "table",
        "--out",
        "memory://bucket/out",
        "--shard",
        "0/1",
    )
    assert run(*words) == 0
    first = stored("bucket/out")
    assert sum(name.endswith(".parquet") for name in first) == 3
    capsys.readouterr()
    assert run(*words) == 0
    assert "5 images of shard 0/1 were predicted earlier" in capsys.readouterr().out
    STORE.pipe_file(
        "/bucket/camvid/val/images/day/4.png", STORE.cat_file("/bucket/camvid/val/images/day/0.png")
    )
    STORE.rm_file("/bucket/out/_done/0-of-1/000000.json")
    assert run(*words) == 0
    assert "2 images of shard 0/1 were predicted earlier" in capsys.readouterr().out
    assert stored("bucket/out")["labels/day/4.png"] == first["labels/day/0.png"]
    assert run(*words[:-1], "0/2") == 2
    assert "was begun with 1 shards" in capsys.readouterr().err


def test_evaluation_and_its_files(model: Path, data: Path, tmp_path: Path) -> None:
    words = ("evaluate", model, "--dataset", "camvid", "--split", "val")
    assert run(*words, "--root", data, "--json", tmp_path / "s.json") == 0
    assert run(*words, "--root", "memory://bucket/camvid", "--json", "memory://bucket/scores/s.json") == 0
    one, other = json.loads((tmp_path / "s.json").read_text()), json.loads(stored("bucket/scores")["s.json"])
    assert one.pop("root") == str(data)
    assert other.pop("root").endswith("bucket/camvid")
    assert one == other
    assert stored("bucket/scores")["s.html"].lower().startswith(b"<!doctype html")
    labels = "memory://bucket/camvid/val/labels"
    folders = ("--predictions", labels, "--labels", labels, "--protocol", "camvid11")
    assert main(["evaluate", *folders, "--json", "memory://bucket/same.json"]) == 0
    assert json.loads(STORE.cat_file("/bucket/same.json"))["miou"] == 100


def test_a_data_set_is_checked(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "camvid", "memory://bucket/camvid", "--split", "val"]) == 0
    assert "no errors" in capsys.readouterr().out


def test_file_urls_are_paths(model: Path, data: Path, tmp_path: Path) -> None:
    images = data / "val" / "images"
    assert run("predict", model, images, "--out", tmp_path / "one", "--write", "labels") == 0
    words = ("--out", f"file://{tmp_path}/two", "--write", "labels")
    assert run("predict", f"file://{model}", f"file://{images}", *words) == 0
    assert on_disk(tmp_path / "two") == {
        name: content for name, content in on_disk(tmp_path / "one").items() if name != ".iccld.lock"
    }


def test_a_copy_follows_the_storage(data: Path) -> None:
    url = "memory://bucket/camvid/val/labels"
    folder = local_copy(url)
    assert on_disk(data / "val" / "labels").items() <= on_disk(folder).items()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    STORE.rm_file("/bucket/camvid/val/labels/day/0.png")
    STORE.pipe_file("/bucket/camvid/val/labels/day/1.png", b"other")
    assert local_copy(url) == folder
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    assert {path.name for path in after} == {f"{number}.png" for number in range(1, 5)}
    assert (folder / "day" / "1.png").read_bytes() == b"other"
    assert {path.name for path in after if after[path] == before[path]} == {"2.png", "3.png", "4.png"}
    assert local_copy(f"{url}/day/2.png").read_bytes() == (data / "val/labels/day/2.png").read_bytes()
    (next(folder.glob(".iccld-mirror*"))).write_text("{broken")
    assert local_copy(url) == folder


def test_a_name_that_leads_out_of_the_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    STORE.store["/bucket/evil/../../x.png"] = STORE.open("/bucket/evil/a.png", "wb")
    assert run("evaluate", "streets", "--dataset", "folder", "--root", "memory://bucket/evil") == 2
    assert "leads out of the folder" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("predict", "{model}", "memory://gone/images", "--out", "o"), "memory://gone/images: no such file"),
        (("predict", "{model}", "memory://bucket/camvid/val/*.jpg", "--out", "o"), "no image is there"),
        (("predict", "memory://bucket/model", "{data}", "--out", "o"), "memory://bucket/model: no such file"),
        (("predict", "memory://bucket/model.onnx", "{data}", "--out", "o"), "model.onnx: no such file"),
        (("evaluate", "{model}", "--dataset", "camvid", "--root", "memory://gone"), "memory://gone: no such"),
        (("predict", "{model}", "gs://bucket/images", "--out", "o"), "needs gcsfs"),
        (("train", "demo", "--out", "memory://bucket/run"), "must be on disk"),
        (("data", "init", "memory://bucket/camvid"), "memory://bucket/camvid: must be on disk"),
        (("report", "memory://bucket/run"), "memory://bucket/run: must be on disk"),
        (("rank", "{model}", "{data}", "--out", "memory://bucket/rank"), "must be on disk"),
        (("export", "{model}", "--format", "onnx", "--out", "memory://bucket/m.onnx"), "must be on disk"),
        (("predict", "{model}", "{data}", "--out", "memory://bucket/camvid"), "is not empty"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(
    words: tuple[str, ...],
    said: str,
    model: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    before = stored("bucket")
    assert main([word.format(model=model, data=data) for word in words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert stored("bucket") == before
