"""One mask per class, and data sets of nnU-Net and in Parquet files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from fake_data import random_ids, random_image, save_gray, save_rgb
from foreign_files import SIZE, draw, read_map, save_image
from PIL import Image
from pyarrow import parquet

from iccld.cli import main
from iccld.data.autodetect.detect import guess_folder
from iccld.data.datasets import open_dataset
from iccld.data.foreign.find import find_format
from iccld.data.foreign.tables import read_names
from iccld.errors import InputError

CLASSES = ("car", "road", "sky")
PLACES = {
    "folders": "masks/{split}/{name}/{stem}.png",
    "endings": "masks/{split}/{stem}_{name}.png",
}


def masks(root: Path, place: str, value: int = 255) -> dict[str, np.ndarray]:
    """Writes images and masks, and returns image → label map, in which later classes cover earlier ones."""
    rng, expected = np.random.default_rng(0), {}
    for split in ("train", "val"):
        for stem in ("a_1", "b", "a"):
            save_image(root / "images" / split / f"{stem}.jpg")
            labels = np.full(SIZE, 255)
            for index, name in enumerate(CLASSES):
                mask = rng.random(SIZE) > 0.5
                path = root / place.format(split=split, name=name, stem=stem)
                save_gray(path, mask.astype(np.uint8) * value)
                labels[mask] = index
            expected[f"{split}/{stem}.png"] = labels
    return expected


@pytest.mark.parametrize("place", ["folders", "endings"])
@pytest.mark.parametrize("value", [255, 1])
def test_masks_of_classes(tmp_path: Path, place: str, value: int) -> None:
    expected = masks(tmp_path, PLACES[place], value)
    done = draw(tmp_path)
    assert done.guess.meaning is not None
    assert done.guess.meaning.keys["classes"] == list(CLASSES)
    assert sorted(done.guess.splits) == ["train", "val"]
    for name, labels in expected.items():
        np.testing.assert_array_equal(read_map(tmp_path, name), labels)


def test_sequences_are_no_classes(tmp_path: Path) -> None:
    """Binary label maps in folders of sequences, whose frames have the same numbers in every sequence."""
    rng = np.random.default_rng(0)
    for drive in ("north", "south"):
        for frame in ("0", "1"):
            save_rgb(tmp_path / "images" / drive / f"{frame}.png", random_image(rng))
            save_gray(tmp_path / "labels" / drive / f"{frame}.png", random_ids(rng, [0, 255]))
    assert find_format(tmp_path) is None
    assert guess_folder(tmp_path).splits["train"].labels is not None


def test_label_maps_with_endings_are_no_masks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for stem in ("a", "b"):
        save_rgb(tmp_path / "images" / f"{stem}.png", random_image(rng))
        save_gray(tmp_path / "labels" / f"{stem}_ids.png", random_ids(rng, [0, 1, 2]))
        save_gray(tmp_path / "labels" / f"{stem}_instances.png", random_ids(rng, [0, 1, 2]))
    assert find_format(tmp_path) is None


def test_a_gray_mask_is_refused(tmp_path: Path) -> None:
    masks(tmp_path, PLACES["folders"])
    for number in range(20):  # beyond the masks that are sampled
        save_image(tmp_path / "images" / "train" / f"z{number}.jpg")
        for name in CLASSES:
            save_gray(tmp_path / "masks" / "train" / name / f"z{number}.png", np.zeros(SIZE, np.uint8))
    rng = np.random.default_rng(0)
    save_gray(tmp_path / "masks/train/car/z3.png", random_ids(rng, [0, 100, 255], SIZE))
    with pytest.raises(InputError, match=r"z3\.png: has other values than 0 and one more"):
        draw(tmp_path)


def nnunet(root: Path, labels: dict[str, Any]) -> Path:
    rng = np.random.default_rng(0)
    for index in range(3):
        save_rgb(root / "imagesTr" / f"road_{index:03}_0000.png", random_image(rng))
        save_gray(root / "labelsTr" / f"road_{index:03}.png", random_ids(rng, [0, 1, 2]))
    save_rgb(root / "imagesTs" / "road_900_0000.png", random_image(rng))
    facts = {"channel_names": {"0": "RGB"}, "labels": labels, "numTraining": 3, "file_ending": ".png"}
    (root / "dataset.json").write_text(json.dumps(facts))
    return root


@pytest.mark.parametrize(
    "labels",
    [{"background": 0, "road": 1, "ignore": 2}, {"0": "background", "1": "road", "2": "ignore"}],
)
def test_nnunet(tmp_path: Path, labels: dict[str, Any]) -> None:
    assert main(["data", "init", str(nnunet(tmp_path, labels))]) == 0
    data = open_dataset("folder", tmp_path)
    assert data.label_space.names == ("background", "road")
    raw = np.array(Image.open(tmp_path / "labelsTr" / "road_001.png"))
    np.testing.assert_array_equal(data.label(1), np.where(raw == 2, 255, raw))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"whole": [1, 2], "background": 0}, "only labels of one id"),
        ({"background": -1}, "only labels of one id"),
    ],
)
def test_regions_of_nnunet_are_refused(tmp_path: Path, labels: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        guess_folder(nnunet(tmp_path, labels))


def test_channels_of_nnunet_are_refused(tmp_path: Path) -> None:
    nnunet(tmp_path, {"background": 0, "road": 1, "car": 2})
    save_rgb(tmp_path / "imagesTr" / "road_000_0001.png", random_image(np.random.default_rng(0)))
    with pytest.raises(InputError, match="is a second channel"):
        guess_folder(tmp_path)


def table(path: Path, columns: dict[str, list[Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path)
    return path


def picture(folder: Path, array: np.ndarray, ending: str) -> dict[str, Any]:
    path = folder / f"x.{ending}"
    Image.fromarray(array).save(path)
    return {"bytes": path.read_bytes(), "path": path.name}


@pytest.mark.parametrize("names", [("image", "label"), ("pixel_values", "semantic_segmentation")])
def test_parquet_files(tmp_path: Path, names: tuple[str, str]) -> None:
    rng, root = np.random.default_rng(0), tmp_path / "set"
    labels = {}
    for split, count in (("train", 40), ("validation", 2)):
        maps = [random_ids(rng, [0, 1, 2]) for _ in range(count)]
        images = [picture(tmp_path, random_image(rng), "jpg") for _ in maps]
        columns = {
            names[0]: images,
            names[1]: [picture(tmp_path, m, "png") for m in maps],
            "id": [*range(count)],
        }
        table(root / "data" / f"{split}-00000-of-00001.parquet", columns)
        labels[split] = maps
    assert main(["data", "init", str(root), "--classes", "road", "car", "sky"]) == 0
    for split, name in (("train", "train"), ("val", "validation")):
        data = open_dataset("folder", root, split=split)
        assert len(data) == len(labels[name])
        for index, expected in enumerate(labels[name]):
            np.testing.assert_array_equal(data.label(index), expected)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a"]}, "has no column of images among 'text'"),
        ({"image": [{"bytes": b"no picture", "path": "a"}]}, "row 0"),
        ({"image": [{"bytes": None, "path": "a.png"}, {"bytes": b"x", "path": ""}]}, "row 0 has no images"),
        ({"a": [{"bytes": b"1"}], "b": [{"bytes": b"2"}]}, "has several columns of images"),
    ],
)
def test_parquet_files_without_images_are_refused(
    tmp_path: Path, columns: dict[str, list[Any]], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table(tmp_path / "train.parquet", columns)
    assert main(["data", "init", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_a_damaged_parquet_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    assert main(["data", "init", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "train.parquet: cannot be read" in err
    assert err.count("\n") == 1


def test_an_interrupted_extraction_begins_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    columns = {"image": [picture(tmp_path, random_image(rng), "jpg") for _ in range(3)]}
    root = tmp_path / "set"
    table(root / "train-0.parquet", columns)
    (root / "train-1.parquet").write_bytes(b"PAR1")
    assert main(["data", "init", str(root)]) == 2
    assert sorted(path.name for path in root.iterdir()) == ["train-0.parquet", "train-1.parquet"]
    table(root / "train-1.parquet", columns)
    assert main(["data", "init", str(root)]) == 0
    assert len(open_dataset("folder", root, needs_labels=False)) == 6


def test_two_names_for_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only labels of one id"):
        guess_folder(nnunet(tmp_path, {"a": 0, "b": 0}))
    with pytest.raises(InputError, match="only labels of one id"):
        guess_folder(nnunet(tmp_path, {"a": "²"}))


@pytest.mark.parametrize("revision", [None, "v1", "refs/convert/parquet"])
def test_a_data_set_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str | None) -> None:
    rng, out = np.random.default_rng(0), tmp_path / "set"
    maps = [random_ids(rng, [0, 1]) for _ in range(3)]

    def download(repo_id: str, **asked: Any) -> str:
        assert (repo_id, asked["revision"], asked["repo_type"]) == ("user/name", revision, "dataset")
        assert asked["local_dir"] == out
        columns = {
            "image": [picture(tmp_path, random_image(rng), "jpg") for _ in maps],
            "label": [picture(tmp_path, m, "png") for m in maps],
        }
        table(out / "data" / "train-00000-of-00001.parquet", columns)
        (out / "id2label.json").write_text('{"1": "car", "0": "road"}')
        return str(out)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    name = "hf:user/name" + (f"@{revision}" if revision else "")
    assert main(["data", "init", name, "--out", str(out)]) == 0
    data = open_dataset("folder", out, split="train")
    assert data.label_space.names == ("road", "car")
    for index, expected in enumerate(maps):
        np.testing.assert_array_equal(data.label(index), expected)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hf:name", "--out", "OUT"], "is not the name of a data set; give hf:USER/NAME[@REVISION]"),
        (["hf:user/name"], "give its folder with --out"),
        (["hf:user/name", "--out", "OUT"], "has no Parquet files; try hf:user/name@refs/convert/parquet"),
    ],
)
def test_names_of_the_hub_that_give_no_data_set(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **asked: str(asked["local_dir"]))
    (tmp_path / "OUT").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["data", "init", *words]) == 2
    assert message in capsys.readouterr().err


def test_without_a_connection_the_name_is_in_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    assert main(["data", "init", "hf:user/name", "--out", str(tmp_path / "set")]) == 2
    err = capsys.readouterr().err
    assert "user/name: no such folder, and the hub could not give a dataset" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("text", ['{"0": "road", "2": "car"}', '["road"]', '{"0": 3}', "{}"])
def test_incomplete_names_of_classes_are_not_used(tmp_path: Path, text: str) -> None:
    (tmp_path / "id2label.json").write_text(text)
    assert read_names(tmp_path) == ()
