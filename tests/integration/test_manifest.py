"""Manifests: ``iccld data manifest``, and ``predict`` with a manifest."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import fsspec
import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from iccld.cli import main
from iccld.data.datasets import open_dataset
from iccld.data.identity import describe_data, first_difference
from iccld.errors import InputError

STORE = fsspec.filesystem("memory")


@pytest.fixture(autouse=True)
def _empty_store() -> Iterator[None]:
    yield
    STORE.store.clear()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(4):
        path = tmp_path / "data" / "images" / "day" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(number).integers(0, 256, (40, 56 + number, 3), dtype=np.uint8)
        assert cv2.imwrite(str(path), image)
    return tmp_path / "data" / "images"


def outputs(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".iccld"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_a_manifest_stands_for_the_folder(images: Path, model: str, tmp_path: Path) -> None:
    manifest = images.parent / "frames.parquet"
    assert main(["data", "manifest", str(images), "--out", str(manifest), "--hash"]) == 0
    rows = parquet.read_table(manifest).to_pylist()
    assert [row["path"] for row in rows] == [f"images/day/{number}.png" for number in range(4)]
    assert [(row["height"], row["width"]) for row in rows] == [(40, 56 + number) for number in range(4)]
    assert rows[2]["hash"] == hashlib.sha256((images / "day" / "2.png").read_bytes()).hexdigest()
    moved = images.parent.rename(tmp_path / "moved")
    assert main(["predict", model, str(moved / "images"), "--out", str(tmp_path / "folder")]) == 0
    assert main(["predict", model, str(moved / "frames.parquet"), "--out", str(tmp_path / "manifest")]) == 0
    assert outputs(tmp_path / "folder") == outputs(tmp_path / "manifest")


def test_a_manifest_in_object_storage(images: Path, model: str, tmp_path: Path) -> None:
    for path in images.rglob("*.png"):
        STORE.pipe_file(f"/fleet/frames/{path.name}", path.read_bytes())
    url = "memory://fleet/all.parquet"
    assert main(["data", "manifest", "memory://fleet/frames", "--out", url]) == 0
    words = ["predict", model, url, "--write", "labels", "--shard", "0/1", "--out"]
    assert main([*words, "memory://fleet/out"]) == 0
    assert (
        main(["predict", model, str(images / "day"), "--write", "labels", "--out", str(tmp_path / "disk")])
        == 0
    )
    stored = {path: STORE.cat_file(path) for path in STORE.find("/fleet/out/labels")}
    disk = outputs(tmp_path / "disk" / "labels")
    assert list(stored.values()) == [data for _, data in sorted(disk.items())]


def test_images_outside_of_its_folder_need_trust(
    images: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "elsewhere" / "frames.parquet"
    assert main(["data", "manifest", str(images), "--out", str(manifest)]) == 0
    words = ["predict", model, str(manifest), "--out", str(tmp_path / "out"), "--write", "labels"]
    assert main(words) == 2
    assert "--follow-outside" in capsys.readouterr().err
    assert main([*words, "--follow-outside"]) == 0
    assert len(outputs(tmp_path / "out" / "labels")) == 4


def test_a_broken_image_is_left_out(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (images / "day" / "2.png").write_bytes(b"no image")
    assert main(["data", "manifest", str(images), "--out", str(tmp_path / "m.parquet")]) == 1
    assert "2.png" in capsys.readouterr().err
    assert len(parquet.read_table(tmp_path / "m.parquet")) == 3


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"path": "images/day/0.png", "name": "../../x", "stamp": ""}], "write it again"),
        ([{"path": "images/day/0.png", "name": "/tmp/x", "stamp": ""}], "write it again"),
        ([{"path": "", "name": "x", "stamp": ""}], "without a path"),
        ([{"path": "../../secret.png", "name": "x", "stamp": ""}], "outside of"),
        ([{"path": "s3://other/x.png", "name": "x", "stamp": ""}], "outside of"),
        ([{"file": "images/day/0.png"}], "is no manifest"),
        (None, "is no manifest"),
    ],
)
def test_manifests_that_are_refused(
    rows: list[dict[str, str]] | None,
    said: str,
    images: Path,
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = images.parent / "m.parquet"
    if rows is None:
        path.write_bytes(b"PAR1 and then nothing")
    else:
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert main(["predict", model, str(path), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_training_takes_a_manifest(tiny_data: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_data / "target" / "train" / "images", tmp_path / "frames")
    path = tmp_path / "frames.parquet"
    assert main(["data", "manifest", str(folder), "--out", str(path)]) == 0
    one, other = (open_dataset("folder", root, needs_labels=False) for root in (folder, path))
    assert len(one) == len(other) == 4
    for index in range(4):
        np.testing.assert_array_equal(one.image(index), other.image(index))
    facts = describe_data(other)
    assert facts["manifest"] == hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "3.png").unlink()
    assert main(["data", "manifest", str(folder), "--out", str(path)]) == 0
    again = describe_data(open_dataset("folder", path, needs_labels=False))
    assert first_difference({"target": facts}, {"target": again}) is not None


@pytest.mark.parametrize(
    ("options", "message"), [({}, "without labels"), ({"split": "val"}, "has no split 'val'")]
)
def test_a_manifest_has_no_labels_and_one_split(
    tiny_data: Path, tmp_path: Path, options: dict[str, str], message: str
) -> None:
    path = tmp_path / "frames.parquet"
    assert main(["data", "manifest", str(tiny_data), "--out", str(path)]) == 0
    with pytest.raises(InputError, match=message):
        open_dataset("folder", path, **options)  # type: ignore[arg-type]


def test_two_manifests_with_equal_names_are_two_caches(tmp_path: Path) -> None:
    keys = set()
    for day, value in (("one", 10), ("two", 200)):
        folder = tmp_path / day / "frames"
        folder.mkdir(parents=True)
        assert cv2.imwrite(str(folder / "0.png"), np.full((8, 8, 3), value, np.uint8))
        assert main(["data", "manifest", str(folder), "--out", str(tmp_path / day / "f.parquet")]) == 0
        dataset = open_dataset("folder", tmp_path / day / "f.parquet", needs_labels=False)
        keys.add(dataset.fingerprint())  # type: ignore[attr-defined]
    assert len(keys) == 2


def test_a_remote_manifest_lists_images_beside_it() -> None:
    image = cv2.imencode(".png", np.full((8, 8, 3), 7, np.uint8))[1].tobytes()
    STORE.pipe("/fleet/frames/0.png", image)
    assert main(["data", "manifest", "memory://fleet/frames", "--out", "memory://fleet/f.parquet"]) == 0
    dataset = open_dataset("folder", "memory://fleet/f.parquet", needs_labels=False)
    assert (dataset.image(0) == 7).all()
