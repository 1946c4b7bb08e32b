"""Prediction and evaluation by several processes: ``--shard``, ``--merge`` and tables of results."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pyarrow import parquet

from iccld.cli import main
from iccld.files import write_json
from iccld.inference import blocks
from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD

NAMES = [f"{folder}/{number:02d}" for folder in ("day", "night") for number in range(7)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen images in two folders, with labels in the layout of CamVid."""
    root = tmp_path_factory.mktemp("camvid")
    rng = np.random.default_rng(0)
    for name in NAMES:
        labels = np.kron(rng.choice([0, 1, 2, 8, 255], (5, 8)), np.ones((8, 8))).astype(np.uint8)
        image = rng.integers(0, 256, (*labels.shape, 3), dtype=np.uint8)
        for kind, picture in (("images", image), ("labels", labels)):
            path = root / "val" / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), picture)
    return root


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_BLOCK", 3)


def run(*words: object) -> int:
    return main([*map(str, words), "--threads", "1", "--device", "cpu"])


def contents(folder: Path) -> dict[str, bytes]:
    """Bytes of all output files, without locks and the folder's own record."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".iccld"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def outputs(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if not name.startswith(("_done", "table"))}


def table(folder: Path) -> list[dict[str, object]]:
    rows = [
        row
        for path in sorted(folder.glob("table/*/*.parquet"))
        for row in parquet.read_table(path).to_pylist()
    ]
    return sorted(rows, key=lambda row: str(row["name"]))


def test_shards_write_what_one_process_writes(model: str, data: Path, tmp_path: Path) -> None:
    images = data / "val" / "images"
    assert run("predict", model, images, "--out", tmp_path / "one") == 0
    for number in (2, 0, 1):
        assert run("predict", model, images, "--out", tmp_path / "three", "--shard", f"{number}/3") == 0
    assert outputs(tmp_path / "three") == outputs(tmp_path / "one")
    done = [json.loads(path.read_text())["images"] for path in (tmp_path / "three" / "_done").rglob("*.json")]
    assert sorted(name for images in done for name in images) == NAMES


def test_a_killed_shard_continues(
    model: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = (
        "predict",
        model,
        data / "val" / "images",
        "--write",
        "labels",
        "table",
        "--shard",
        "0/1",
        "--out",
    )
    assert run(*words, tmp_path / "whole") == 0
    predicted: list[int] = []
    original = ICCLD.predict

    def predict(self: ICCLD, *args: object, **settings: object) -> object:
        predicted.append(1)
        if len(predicted) == 9:
            raise KeyboardInterrupt
        return original(self, *args, **settings)

    monkeypatch.setattr(ICCLD, "predict", predict)
    assert run(*words, tmp_path / "cut") != 0
    capsys.readouterr()
    assert run(*words, tmp_path / "cut") == 0
    said = capsys.readouterr().out
    assert "6 images of shard 0/1 were predicted earlier" in said
    assert "8 images predicted" in said
    assert len(predicted) == 9 + 8
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert run(*words, tmp_path / "cut") == 0
    assert len(predicted) == 9 + 8


def test_what_has_changed_is_predicted_again(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    for number in range(7):
        image = np.full((32, 48 + number, 3), 10 * number, np.uint8)
        image[number] = np.random.default_rng(number).integers(0, 256, image[number].shape)
        images.mkdir(exist_ok=True)
        assert cv2.imwrite(str(images / f"{number}.png"), image)
    words = (
        "predict",
        model,
        images,
        "--write",
        "labels",
        "table",
        "--shard",
        "0/1",
        "--out",
        tmp_path / "out",
    )
    assert run(*words) == 0
    (images / "1.png").write_bytes((images / "2.png").read_bytes())
    (images / "6.png").unlink()
    (images / "0.png").rename(images / "8.png")
    capsys.readouterr()
    assert run(*words) == 0
    assert "3 images of shard 0/1 were predicted earlier" in capsys.readouterr().out
    assert [row["name"] for row in table(tmp_path / "out")] == ["1", "2", "3", "4", "5", "8"]
    assert table(tmp_path / "out")[0]["width"] == 50
    assert run(*words, "--steps", "2") == 0  # another setting: all of it again
    assert "predicted earlier" not in capsys.readouterr().out


def test_a_broken_image_is_tried_again_and_the_others_are_kept(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number, name in enumerate(NAMES[:4]):
        (images / f"{number}.png").write_bytes((data / "val" / "images" / f"{name}.png").read_bytes())
    whole = (images / "1.png").read_bytes()
    (images / "1.png").write_bytes(whole[:40])
    words = ("predict", model, images, "--write", "table", "--shard", "0/1", "--out", tmp_path / "out")
    assert run(*words) == 1
    assert "1.png" in capsys.readouterr().err
    assert [row["name"] for row in table(tmp_path / "out")] == ["0", "2", "3"]
    (images / "1.png").write_bytes(whole)
    assert run(*words) == 0
    assert "1 image predicted" in capsys.readouterr().out
    assert [row["name"] for row in table(tmp_path / "out")] == ["0", "1", "2", "3"]


def test_rows_of_the_table_agree_with_the_label_maps(model: str, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("predict", model, data / "val" / "images", "--ids", "index", "--out", out, "--write", "table")
    assert run(*words, "labels") == 0
    rows = table(out)
    assert [row["name"] for row in rows] == NAMES
    for row in rows:
        label = cv2.imread(str(out / str(row["mask"])), cv2.IMREAD_UNCHANGED)
        assert label.shape == (row["height"], row["width"])
        shares = {name: float((label == index).mean()) for index, name in enumerate(CAMVID11.names)}
        assert row["shares"] == pytest.approx(shares)
        assert 0 < float(str(row["uncertainty"])) < 1
        assert Path(str(row["frame"])).is_file()
    assert run(*words, "--seed", "1") == 0
    assert [row["mask"] for row in table(out)] == [None] * 14  # the rows of the earlier call are gone


def evaluated(model: str, data: Path, out: Path, *words: object) -> dict[str, object]:
    given = ("--dataset", "camvid", "--root", data, "--split", "val")
    assert run("evaluate", model, *given, "--json", out, *words) == 0
    return dict(json.loads(out.read_text()))


@pytest.mark.parametrize("count", [1, 3, 30])
def test_merged_parts_are_one_evaluation(count: int, model: str, data: Path, tmp_path: Path) -> None:
    whole = evaluated(model, data, tmp_path / "whole.json", "--draws", "2")
    parts = [tmp_path / f"{number}.json" for number in range(count)]
    for number, part in enumerate(parts):
        evaluated(model, data, part, "--draws", "2", "--shard", f"{number}/{count}")
    merged = tmp_path / "merged.json"
    assert main(["evaluate", "--merge", *map(str, reversed(parts)), "--json", str(merged)]) == 0
    found = json.loads(merged.read_text())
    assert list(found) == list(whole)
    one, other = (dict(value.pop("calibration")) for value in (found, whole))
    assert found == whole
    assert one == pytest.approx(other, rel=1e-12)
    page = merged.with_suffix(".html").read_text()
    assert "Calibration" in page
    assert "14" in page


def part_of(path: Path, **changes: object) -> str:
    value = json.loads(path.read_text())
    for key, change in changes.items():
        value[key] = change
    return str(write_json(path.with_name(f"changed-{len(list(path.parent.iterdir()))}.json"), value))


def test_parts_that_do_not_fit_are_refused(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zero, one = tmp_path / "0.json", tmp_path / "1.json"
    evaluated(model, data, zero, "--shard", "0/2")
    evaluated(model, data, one, "--shard", "1/2")
    evaluated(model, data, tmp_path / "draws.json", "--shard", "1/2", "--draws", "3")
    evaluated(model, data, tmp_path / "whole.json")
    counts = json.loads(one.read_text())["counts"]
    far = {**counts["detections"], "entropy": {"right": {"8192": 1}, "wrong": {}}}
    cases = {
        "part 1/2 is missing": [str(zero)],
        "give each part once": [str(zero), str(zero)],
        "give parts of one call": [str(zero), part_of(one, shard="1/3")],
        "has another draws": [str(zero), str(tmp_path / "draws.json")],
        "is no part of an evaluation": [str(zero), str(tmp_path / "whole.json")],
        "has another identity": [str(zero), part_of(one, identity="other")],
        "is damaged": [str(zero), part_of(one, counts={})],
        "bins of scores end at 8191": [str(zero), part_of(one, counts={**counts, "detections": far})],
        "no such file": [str(zero), "gone.json"],
        "--merge and MODEL exclude each other": [str(zero), str(one), "--model"],
    }
    for said, words in cases.items():
        before = [model] if words[-1] == "--model" else []
        words = [word for word in words if word != "--model"]
        assert main(["evaluate", *before, "--merge", *words]) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("shard", ["3/3", "-1/3", "1", "a/b", "1/0", "0/99999999", "٣/٤"])
def test_shards_that_are_none(
    shard: str, model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("predict", model, data, "--out", tmp_path / "p", f"--shard={shard}") == 2
    given = ("--dataset", "camvid", "--root", data, "--json", tmp_path / "e.json")
    assert run("evaluate", model, *given, f"--shard={shard}") == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 2
    assert all("--shard" in line for line in err)
    assert not (tmp_path / "p").exists()


def test_another_number_of_shards_is_refused(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        "predict",
        model,
        data / "val" / "images",
        "--out",
        tmp_path / "out",
        "--write",
        "labels",
        "--shard",
    )
    assert run(*words, "1/3") == 0
    assert run(*words, "1/4") == 2
    assert "was begun with 3 shards, not 4" in capsys.readouterr().err


def test_a_part_needs_a_file(
    model: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", model, "--dataset", "camvid", "--root", data, "--shard", "0/2") == 2
    assert "--shard needs --json FILE" in capsys.readouterr().err


def test_without_pyarrow_there_is_one_line(
    model: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert run("predict", model, data, "--out", tmp_path / "out", "--write", "table") == 2
    assert "pip install '.[cloud]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
