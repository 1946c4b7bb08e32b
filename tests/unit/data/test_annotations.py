"""Annotations in formats other than label maps are named, with advice on conversion."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fake_data import random_image, save_rgb

from iccld.data.annotations import find_annotations
from iccld.data.autodetect.detect import guess_folder
from iccld.data.datasets import open_dataset
from iccld.errors import InputError

COCO = {
    "images": [{"id": 1}],
    "annotations": [{"segmentation": [[1, 2, 3, 4]]}],
    "categories": [{"name": "x"}],
}
FORMATS: dict[str, tuple[str, object]] = {
    "COCO's JSON": ("annotations/instances.json", COCO),
    "COCO's panoptic JSON": ("panoptic.json", {"annotations": [], "segments_info": [], "categories": []}),
    "labelme's JSON": ("images/1.json", {"version": "5", "shapes": [], "imagePath": "1.png", "imageData": None}),
    "YOLO's text files (boxes)": ("labels/1.txt", "0 0.5 0.5 0.1 0.2\n1 0.1 0.1 0.1 0.1\n"),
    "YOLO's text files (polygons)": ("labels/1.txt", "0 0.5 0.5 0.1 0.2 0.3 0.9\n"),
    "Pascal VOC's XML (boxes)": ("Annotations/1.xml", "<annotation><filename>1.png</filename></annotation>"),
    "CVAT's XML": ("annotations.xml", '<?xml version="1.0"?>\n<annotations><image id="0"/></annotations>'),
    "Supervisely's JSON": ("ann/1.png.json", {"size": {"height": 1}, "objects": []}),
    "Label Studio's JSON": ("export.json", [{"id": 1, "data": {"image": "x"}, "annotations": []}]),
    "VIA's JSON": ("via.json", {"1.png123": {"filename": "1.png", "regions": []}}),
    "Cityscapes' polygons": ("gt/a.json", {"imgHeight": 1, "imgWidth": 1, "objects": []}),
    "GeoJSON": ("outlines.geojson", {"type": "FeatureCollection", "features": []}),
    "MATLAB's .mat files": ("truth/1.mat", "MATLAB 5.0"),
    "NIfTI": ("masks/1.nii.gz", ""),
    "run lengths in a CSV file": ("train.csv", "ImageId,EncodedPixels\n1,3 4\n"),
}  # fmt: skip

READ = (
    "COCO's JSON", "COCO's panoptic JSON", "labelme's JSON", "YOLO's text files (polygons)", "CVAT's XML",
    "Label Studio's JSON", "Supervisely's JSON",
)  # fmt: skip


def write(root: Path, file: str, content: object) -> None:
    save_rgb(root / "images/1.png", random_image(np.random.default_rng(0)))
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize(("title", "case"), FORMATS.items(), ids=FORMATS.keys())
def test_formats_are_named(title: str, case: tuple[str, object], tmp_path: Path) -> None:
    write(tmp_path, *case)
    found = find_annotations(tmp_path)
    assert found is not None
    assert (found.title, found.example) == (title, tmp_path / case[0])
    guess = guess_folder(tmp_path)
    assert guess.role == "target"
    assert any(f"annotations in {title} ({case[0]})" in note for note in guess.notes)
    is_read = title in READ
    expected = "'iccld data init' draws label maps from them" if is_read else "which are not read"
    with pytest.raises(InputError, match=expected) as caught:
        open_dataset("folder", tmp_path)
    assert title in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("notes.txt", "photographed in 2024"),
        ("train.txt", "images/1.png\n"),
        ("intrinsics.txt", "1 0 0 640 480\n"),
        ("package.json", {"name": "x", "version": "1"}),
        ("deep.json", "[" * 100_000),
        ("list.json", []),
        ("broken.xml", "<annotation"),
    ],
)
def test_other_files_are_none(file: str, content: object, tmp_path: Path) -> None:
    write(tmp_path, file, content)
    assert find_annotations(tmp_path) is None


def test_long_files_are_known_by_their_beginning(tmp_path: Path) -> None:
    many = COCO | {"annotations": [{"segmentation": [list(range(200))]}] * 8000}
    write(tmp_path, "instances.json", many)
    found = find_annotations(tmp_path)
    assert found is not None
    assert found.title == "COCO's JSON"
