"""``iccld data export``: the annotations give back the label maps, with readers that share no code with the writer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import Image

from iccld.cli import main

SIZE = (48, 64)
NAMES = ["road", 'sky & "more"', "<car>"]
COLORS = [[128, 64, 128], [70, 130, 180], [0, 0, 142]]
IDS = [3, 7, 9]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Predictions and images, with a hole, thin parts, an ignored part and a name that needs escaping."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(["day 1/a&b", "day 1/c", "d"]):
        labels = np.kron(rng.choice([*IDS, 255], (6, 8)), np.ones((8, 8))).astype(np.uint8)
        labels[10:30, 10:40] = 3
        labels[15:20, 20:25] = 7
        labels[40, :] = 9
        for folder, array in (("images", rng.integers(0, 256, (*SIZE, 3))), ("predictions/labels", labels)):
            path = tmp_path / folder / f"{name}.{'jpg' if folder == 'images' and number else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(path)
    classes = [{"id": i, "name": n, "color": c} for i, n, c in zip(IDS, NAMES, COLORS, strict=True)]
    (tmp_path / "predictions" / "classes.json").write_text(json.dumps(classes))
    return tmp_path / "predictions", tmp_path / "images"


Shapes = list[tuple[str, np.ndarray]]


def cvat(path: Path) -> dict[str, Shapes]:
    root = ElementTree.parse(path).getroot()
    assert [label.findtext("name") for label in root.iter("label")] == NAMES
    assert [label.findtext("color") for label in root.iter("label")] == ["#804080", "#4682b4", "#00008e"]
    images = {}
    for image in root.iter("image"):
        assert (image.get("height"), image.get("width")) == ("48", "64")
        polygons = sorted(image.iter("polygon"), key=lambda item: int(item.get("z_order", "")))
        images[image.get("name", "")] = [
            (p.get("label", ""), np.array([q.split(",") for q in p.get("points", "").split(";")], float))
            for p in polygons
        ]
    return images


def studio(path: Path) -> dict[str, Shapes]:
    images = {}
    for task in json.loads(path.read_text()):
        (prediction,) = task["predictions"]
        shapes = []
        for result in prediction["result"]:
            size = np.array([result["original_width"], result["original_height"]])
            (name,) = result["value"]["polygonlabels"]
            shapes.append((name, np.array(result["value"]["points"]) * size / 100))
        images[unquote(task["data"]["image"].removeprefix("/data/local-files/?d="))] = shapes
    return images


def draw(shapes: Shapes) -> np.ndarray:
    """Draws polygons by the centers of the pixels, with OpenCV's point test."""
    labels = np.full(SIZE, 255)
    for name, points in shapes:
        for row, column in np.ndindex(*SIZE):
            center = (column + 0.5, row + 0.5)
            if cv2.pointPolygonTest(points.astype(np.float32), center, measureDist=False) >= 0:
                labels[row, column] = IDS[NAMES.index(name)]
    return labels


@pytest.mark.parametrize(("kind", "read"), [("cvat", cvat), ("labelstudio", studio)])
def test_polygons_give_back_the_label_maps(
    folders: tuple[Path, Path], tmp_path: Path, kind: str, read: Callable[[Path], dict[str, Shapes]]
) -> None:
    predictions, images = folders
    out = tmp_path / "annotations.txt"
    words = ["--format", kind, "--out", str(out), "--tolerance", "0", "--min-area", "1"]
    assert main(["data", "export", str(predictions), str(images), *words]) == 0
    found = read(out)
    assert list(found) == ["d.jpg", "day 1/a&b.png", "day 1/c.jpg"]
    for name, shapes in found.items():
        expected = np.array(Image.open(predictions / "labels" / Path(name).with_suffix(".png")))
        drawn = draw(shapes)
        is_labeled = expected != 255  # polygons have no holes, so a hole of ignored pixels is filled
        np.testing.assert_array_equal(drawn[is_labeled], expected[is_labeled])


def test_coco_masks_are_exact(folders: tuple[Path, Path], tmp_path: Path) -> None:
    predictions, images = folders
    out = tmp_path / "coco.json"
    words = ["--format", "coco", "--out", str(out), "--min-area", "1"]
    assert main(["data", "export", str(predictions), str(images), *words]) == 0
    data = json.loads(out.read_text())
    assert len({annotation["id"] for annotation in data["annotations"]}) == len(data["annotations"])
    assert [category["name"] for category in data["categories"]] == NAMES
    for image in data["images"]:
        labels = np.full(SIZE, 255)
        for annotation in data["annotations"]:
            if annotation["image_id"] == image["id"]:
                counts = annotation["segmentation"]["counts"]
                flat = np.repeat(np.arange(len(counts)) % 2, counts)
                labels[flat.reshape(SIZE[::-1]).T == 1] = IDS[annotation["category_id"] - 1]
        path = predictions / "labels" / Path(image["file_name"]).with_suffix(".png")
        np.testing.assert_array_equal(labels, np.array(Image.open(path)))


def test_polygons_are_simplified(folders: tuple[Path, Path], tmp_path: Path) -> None:
    predictions, images = folders
    corners = []
    for tolerance in ("0", "1"):
        out = tmp_path / f"{tolerance}.xml"
        words = ["--out", str(out), "--tolerance", tolerance]
        assert main(["data", "export", str(predictions), str(images), *words]) == 0
        corners.append(sum(len(points) for shapes in cvat(out).values() for _, points in shapes))
    assert corners[1] < 0.9 * corners[0]


def test_the_first_frames_of_a_ranking(folders: tuple[Path, Path], tmp_path: Path) -> None:
    predictions, images = folders
    ranking = tmp_path / "rank.csv"
    rows = [f"{n},{images / name},,0.5,," for n, name in enumerate(["day 1/c.jpg", "d.jpg", "day 1/a&b.png"])]
    ranking.write_text("\n".join(["rank,file,frame,score,distance,neighbor", *rows]))
    out = tmp_path / "a.xml"
    words = ["--out", str(out), "--rank", str(ranking), "--top", "2"]
    assert main(["data", "export", str(predictions), str(images), *words]) == 0
    assert list(cvat(out)) == ["day 1/c.jpg", "d.jpg"]


def test_classes_and_images_for_a_new_project(folders: tuple[Path, Path], tmp_path: Path) -> None:
    predictions, images = folders
    words = ["--out", str(tmp_path / "a.xml"), "--copy-images", str(tmp_path / "selected")]
    assert main(["data", "export", str(predictions), str(images), *words]) == 0
    labels = json.loads((tmp_path / "a.labels.json").read_text())
    assert [label["name"] for label in labels] == NAMES
    copied = {path.relative_to(tmp_path / "selected") for path in (tmp_path / "selected").rglob("*.*g")}
    assert copied == {path.relative_to(images) for path in images.rglob("*.*g")}
    for name in copied:
        assert (tmp_path / "selected" / name).read_bytes() == (images / name).read_bytes()
    words = ["--out", str(tmp_path / "b.json"), "--format", "labelstudio"]
    assert main(["data", "export", str(predictions), str(images), *words]) == 0
    view = ElementTree.parse(tmp_path / "b.labels.xml").getroot()
    found = [(label.get("value"), label.get("background")) for label in view.iter("Label")]
    assert found == list(zip(NAMES, ["#804080", "#4682b4", "#00008e"], strict=True))
    assert view.find("PolygonLabels[@name='label'][@toName='image']") is not None


def test_corrected_annotations_come_back(folders: tuple[Path, Path], tmp_path: Path) -> None:
    predictions, images = folders
    out = tmp_path / "annotations.xml"
    assert main(["data", "export", str(predictions), str(images), "--out", str(out), "--tolerance", "0"]) == 0
    out.rename(images / out.name)
    assert main(["data", "init", str(images)]) == 0
    drawn = np.array(Image.open(images / "iccld_labels" / "train" / "d.png"))
    expected = np.array(Image.open(predictions / "labels" / "d.png"))
    assert (np.array(IDS)[drawn[expected != 255] % 3] == expected[expected != 255]).mean() > 0.95


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--top", "3"], "give --rank FILE too"),
        (["--rank", "{}/images/d.jpg"], "is no ranking"),
    ],
)
def test_mistakes(
    folders: tuple[Path, Path],
    tmp_path: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = [word.format(tmp_path) for word in words]
    assert main(["data", "export", *map(str, folders), "--out", str(tmp_path / "a.xml"), *flags]) == 2
    assert message in capsys.readouterr().err


def test_an_image_without_a_prediction_is_named(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders[0] / "labels" / "d.png").unlink()
    assert main(["data", "export", *map(str, folders), "--out", str(tmp_path / "a.xml")]) == 2
    assert "so d.jpg has no prediction" in capsys.readouterr().err
    assert not (tmp_path / "a.xml").exists()


def test_a_ring_does_not_cover_its_inside(tmp_path: Path) -> None:
    """The ring has fewer pixels than the region inside."""
    labels = np.full(SIZE, 255, np.uint8)
    labels[4:44, 4:44] = 7
    labels[6:42, 6:42] = 3
    for folder in ("images", "predictions/labels"):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(labels).save(tmp_path / folder / "a.png")
    classes = [{"id": i, "name": n, "color": c} for i, n, c in zip(IDS, NAMES, COLORS, strict=True)]
    (tmp_path / "predictions" / "classes.json").write_text(json.dumps(classes))
    words = ["--out", str(tmp_path / "a.xml"), "--tolerance", "0"]
    assert main(["data", "export", str(tmp_path / "predictions"), str(tmp_path / "images"), *words]) == 0
    np.testing.assert_array_equal(draw(cvat(tmp_path / "a.xml")["a.png"]), labels)


def test_other_files_are_kept(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.labels.json").write_text("mine")
    assert main(["data", "export", *map(str, folders), "--out", str(tmp_path / "a.xml")]) == 2
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "a.labels.json").read_text() == "mine"
