from __future__ import annotations

from pathlib import Path

import pytest

from iccld.errors import InputError
from iccld.inference.evaluation import holds_label_ids, pair_files


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    return tmp_path / "predictions"


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return tmp_path / "labels"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def relative(folder: Path, paths: list[Path]) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def test_files_are_paired_by_their_path(predictions: Path, labels: Path):
    touch(predictions, "a/1.png", "b/1.png", "b/2.png", "b/notes.txt")
    touch(labels, "b/1.png", "a/1.png")
    pairs, unused = pair_files(predictions, labels)
    assert relative(predictions, [p for p, _ in pairs]) == ["a/1.png", "b/1.png"]
    assert relative(labels, [t for _, t in pairs]) == ["a/1.png", "b/1.png"]
    assert relative(predictions, unused) == ["b/2.png"]


@pytest.mark.parametrize(
    "answer", ["", "_leftImg8bit", "_trainIds", "_labelTrainIds", "_gtFine_labelTrainIds"]
)
@pytest.mark.parametrize(
    "truth", ["", "_gtFine_labelIds", "_gtFine_labelTrainIds", "_labelTrainIds", "_trainIds", "_labelIds"]
)
def test_cityscapes_endings_do_not_count(predictions: Path, labels: Path, answer: str, truth: str):
    touch(predictions, f"aachen/aachen_000000_000019{answer}.png")
    touch(labels, f"aachen/aachen_000000_000019{truth}.png")
    pairs, unused = pair_files(predictions, labels)
    assert (len(pairs), unused) == (1, [])


def test_the_other_files_of_cityscapes_are_left_aside(predictions: Path, labels: Path):
    touch(predictions, "x_leftImg8bit.png")
    kinds = ("color", "instanceIds", "labelTrainIds", "labelIds")
    touch(labels, *(f"x_gtFine_{kind}.png" for kind in kinds), "x_gtFine_polygons.json", ".x.png")
    ((_, truth),) = pair_files(predictions, labels)[0]
    assert truth.name == "x_gtFine_labelIds.png"
    assert holds_label_ids(truth)


@pytest.mark.parametrize("ending", ["_leftImg8bit", "_pred_labelTrainIds", "_leftImg8bit_blend", "", "-out"])
def test_flat_predictions_belong_to_nested_labels_of_unique_names(
    predictions: Path, labels: Path, ending: str
):
    names = ("aachen_000000_000019", "ulm_000001_000019", "ulm_000001_0000190")
    touch(predictions, *(f"{name}{ending}.png" for name in names), "other_1.png")
    touch(labels, *(f"{name.split('_')[0]}/{name}_gtFine_labelIds.png" for name in names))
    pairs, unused = pair_files(predictions, labels)
    found = {t.name.removesuffix("_gtFine_labelIds.png"): p.name for p, t in pairs}
    assert found == {name: f"{name}{ending}.png" for name in names}
    assert relative(predictions, unused) == ["other_1.png"]


def test_names_that_two_files_could_have_are_not_paired(predictions: Path, labels: Path):
    touch(predictions, "7.png", "8_a.png", "8_b.png", "9_1.png")
    for nested in (("x/7.png", "y/7.png"), ("x/8.png",), ("x/9.png", "x/9_1.png")):
        touch(labels, *nested)
        with pytest.raises(InputError, match="has no prediction"):
            pair_files(predictions, labels)
        for name in nested:
            (labels / name).unlink()


def test_names_with_accents_are_the_same_in_both_forms(predictions: Path, labels: Path):
    touch(predictions, "stra\u00dfe_\u00e4.png")
    touch(labels, "stra\u00dfe_a\u0308.tif")
    assert len(pair_files(predictions, labels)[0]) == 1


def test_a_label_without_prediction_is_named(predictions: Path, labels: Path):
    touch(predictions, "1.png")
    touch(labels, "1.png", "2.png", "3.png")
    with pytest.raises(InputError, match=r"labels/2\.png: has no prediction .*predictions/2\.png \(1 of 3 "):
        pair_files(predictions, labels)


def test_no_pair_at_all_points_to_the_folder_of_label_maps(predictions: Path, labels: Path):
    touch(predictions, "labels/1.png", "color/1.png")
    touch(labels, "1.png")
    with pytest.raises(InputError, match=r"\(none of 1 .*give --predictions .*predictions/labels"):
        pair_files(predictions, labels)
    assert len(pair_files(predictions / "labels", labels)[0]) == 1


def test_folders_that_cannot_be_used(predictions: Path, labels: Path):
    with pytest.raises(InputError, match="labels: no such folder"):
        pair_files(predictions, labels)
    labels.mkdir()
    with pytest.raises(InputError, match="labels: holds no label map"):
        pair_files(predictions, labels)
    touch(labels, "1.png")
    predictions.touch()
    with pytest.raises(InputError, match="predictions: is not a folder"):
        pair_files(predictions, labels)


def test_two_files_for_one_image_are_refused(predictions: Path, labels: Path):
    touch(predictions, "1.png", "1_leftImg8bit.png")
    touch(labels, "1.png")
    with pytest.raises(InputError, match="belongs to the same image as"):
        pair_files(predictions, labels)
