from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iccld.data.check import check_dataset
from iccld.data.datasets import find_files, native_space
from iccld.errors import InputError
from iccld.reporting.figures import choose_images, label_sheet


def test_rare_classes_are_chosen_first_and_where_they_are_seen_best() -> None:
    names = [f"{i}.png" for i in range(10)]
    shown = {name: {0: 100} for name in names}
    shown["3.png"] = {0: 90, 1: 1}
    shown["7.png"] = {0: 50, 1: 50}
    shown["5.png"] = {0: 99, 2: 1}
    assert choose_images(names, shown, 2) == [5, 7]
    assert choose_images(names, shown, 1) == [5]


def test_one_image_may_show_several_classes() -> None:
    shown = {"a": {0: 5}, "b": {0: 4, 1: 3, 2: 2}, "c": {1: 1}}
    assert choose_images(["a", "b", "c"], shown, 1) == [1]


def test_the_rest_is_spread() -> None:
    names = [str(i) for i in range(100)]
    chosen = choose_images(names, {}, 4)
    assert len(chosen) == 4
    assert max(np.diff([0, *chosen, 99])) <= 50
    assert choose_images(names[:2], {}, 4) == [0, 1]
    assert choose_images(names, {"9": {0: 1}, "11": {0: 1}}, 4) == [
        9,
        11,
    ]  # only those whose labels were read


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Gray images; the left half is class b, the right half ignored; one of them is upright."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for name, size in (("wide", (30, 40)), ("upright", (60, 30))):
        Image.fromarray(np.full((*size, 3), 100, np.uint8)).save(tmp_path / f"images/{name}.png")
        label = np.full(size, 255, np.uint8)
        label[:, : size[1] // 2] = 9
        Image.fromarray(label).save(tmp_path / f"labels/{name}.png")
    text = 'images = "images/*.png"\nlabels = "labels/*.png"\nclasses = ["a", "b"]\n'
    (tmp_path / "dataset.toml").write_text(
        text + "colors = [[0, 255, 0], [200, 0, 0]]\n[ids]\n9 = 'b'\n0 = 'a'\n"
    )
    return tmp_path


def draw(folder: Path, *, labeled: bool = True) -> tuple[np.ndarray, int]:
    report = check_dataset("folder", folder)
    layout = find_files("folder", folder, "train", needs_labels=False)
    shown = report.shown if labeled else {}
    path, count = label_sheet(layout, native_space(layout), shown, folder / "sheet.png", title="a $title")
    return _pixels(path), count


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def share(picture: np.ndarray, color: tuple[int, int, int]) -> float:
    return float((np.abs(picture.astype(int) - color).max(-1) <= 2).mean())


def test_labels_lie_over_images_at_half_opacity(folder: Path) -> None:
    picture, count = draw(folder)
    assert count == 2
    covered, bare = share(picture, (150, 50, 50)), share(picture, (100, 100, 100))
    assert covered > 0.1
    assert abs(covered - bare) < 0.02  # the other half has no label and shows the image alone
    assert 0 < share(picture, (200, 0, 0)) < 0.02  # in the legend; class a is not seen and not in it
    assert share(picture, (0, 255, 0)) == 0


def test_without_labels_images_are_shown_alone(folder: Path) -> None:
    picture, _ = draw(folder, labeled=False)
    assert share(picture, (100, 100, 100)) > 0.2
    assert share(picture, (200, 0, 0)) == 0


def test_unreadable_files_are_left_out(folder: Path) -> None:
    (folder / "images/wide.png").write_bytes(b"no image")
    assert draw(folder)[1] == 1
    (folder / "images/upright.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="no image of it can be read"):
        draw(folder)
