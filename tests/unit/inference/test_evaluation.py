from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from iccld.data.description import read_description
from iccld.errors import InputError
from iccld.inference.evaluation import Measured, evaluate_folders, evaluate_model, missing_classes
from iccld.inference.rendering import index_to_id
from iccld.labels import CAMVID11, CITYSCAPES19, PROTOCOLS, SYNTHIA16, LabelSpace, custom_protocol
from iccld.models.settings import PredictSettings

PROTOCOL = PROTOCOLS["cityscapes19"]


def save(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), values)
    return path


# -- models ------------------------------------------------------------------------------------------


def test_a_model_without_error_scores_100(model: Any, make_dataset: Callable[..., Any]):
    scores = evaluate_model(model, make_dataset(), PROTOCOL, settings=PredictSettings(2, 3, 4, (32, 32)))
    assert scores.miou == scores.pixel_accuracy == 100
    assert scores.num_images == 2
    assert sum(map(sum, scores.confusion)) == 24 * 40 + 16 * 24 - 2 * 64  # one block of each is ignored
    call = {"steps": 2, "draws": 3, "seed": 4, "window": (32, 32), "overlap": 0.25}
    assert model.calls == [call | {"input_height": None, "precision": "auto"}] * 2


def test_errors_count_where_they_are(model: Any, make_dataset: Callable[..., Any]):
    dataset = make_dataset(sizes=((16, 16),))
    truth = dataset.labels[0]
    truth[:] = 0
    truth[8:] = 13
    dataset.image = lambda index: np.full((16, 16, 3), CITYSCAPES19.palette[13], np.uint8)
    scores = evaluate_model(model, dataset, PROTOCOL)
    assert scores.iou["road"] == 0
    assert scores.iou["car"] == 50
    assert scores.miou == 25


def test_sizes_of_the_model_leave_labels_full_size(model: Any, make_dataset: Callable[..., Any]):
    dataset = make_dataset(sizes=((32, 48),))
    scores = evaluate_model(model, dataset, PROTOCOL, settings=PredictSettings(resize=(16, 24)))
    assert model.sizes == [(16, 24)]
    assert sum(map(sum, scores.confusion)) == 32 * 48 - 64
    # The colors of two blocks are mixed along their borders: all but a pixel on each side of these is right.
    right = sum(row[index] for index, row in enumerate(scores.confusion))
    assert right > 0.7 * (32 * 48 - 64)


def test_some_of_the_images(model: Any, make_dataset: Callable[..., Any]):
    assert evaluate_model(model, make_dataset(), PROTOCOL, indices=[1]).num_images == 1
    assert model.sizes == [(16, 24)]


def test_label_spaces_of_model_and_data_are_folded_into_the_protocol(
    model: Any, make_model: Callable[..., Any], make_dataset: Callable[..., Any]
):
    by_nineteen = evaluate_model(model, make_dataset(), PROTOCOLS["camvid11"])
    assert by_nineteen.miou == 100
    assert len(by_nineteen.iou) == 11
    # A data set with 11 classes, and a model whose 19 have others beside them.
    dataset = make_dataset(CAMVID11)
    image = dataset.image
    dataset.image = lambda index: recolor(image(index), CAMVID11, CITYSCAPES19)
    assert evaluate_model(model, dataset, PROTOCOLS["camvid11"]).miou == 100
    assert evaluate_model(make_model(SYNTHIA16), make_dataset(SYNTHIA16), PROTOCOLS["synthia16"]).miou == 100


def recolor(image: np.ndarray, space: LabelSpace, other: LabelSpace) -> np.ndarray:
    result = image.copy()
    for index, target in enumerate(space.lut_to(other)[: len(space)]):
        result[(image == space.palette[index]).all(-1)] = other.palette[target]
    return result


def test_classes_that_the_model_lacks_are_misses(
    make_model: Callable[..., Any], make_dataset: Callable[..., Any]
):
    small = make_model(LabelSpace.from_names("two", ["road", "car"]))
    dataset = make_dataset(sizes=((64, 64),))
    scores = evaluate_model(small, dataset, PROTOCOL)
    assert scores.iou["road"] > 0
    assert scores.iou["sky"] == 0
    assert len(missing_classes(small.label_space, PROTOCOL)) == 17
    assert missing_classes(SYNTHIA16, PROTOCOL) == ("terrain", "truck", "train")
    assert missing_classes(SYNTHIA16, PROTOCOLS["synthia16"]) == ()
    assert missing_classes(CAMVID11, PROTOCOLS["camvid11"]) == ()


def test_own_classes(make_model: Callable[..., Any], make_dataset: Callable[..., Any]):
    space = LabelSpace.from_names("cracks", ["asphalt", "crack"])
    scores = evaluate_model(make_model(space), make_dataset(space), custom_protocol(space))
    assert scores.iou == {"asphalt": 100, "crack": 100}


def test_data_that_cannot_be_measured(model: Any, make_dataset: Callable[..., Any]):
    dataset = make_dataset()
    dataset.labels[1] = dataset.labels[1][:8]
    image = dataset.image
    dataset.image = lambda index: image(0)
    with pytest.raises(InputError, match=r"town/001\.png: the image is 40×24 pixels, its label 24×8 pixels"):
        evaluate_model(model, dataset, PROTOCOL)
    dataset.labels = [np.full((24, 40), 255, np.uint8)] * 2
    with pytest.raises(InputError, match="painted: no labeled pixel in 2 images"):
        evaluate_model(model, dataset, PROTOCOL)
    dataset.has_labels = False
    with pytest.raises(InputError, match="painted has no labels"):
        evaluate_model(model, dataset, PROTOCOL)


def test_an_observer_sees_every_image_and_which_pixels_count(model: Any, make_dataset: Callable[..., Any]):
    dataset = make_dataset()
    shown = [dataset.image(index) for index in range(2)]
    truth = [labels.copy() for labels in dataset.labels]
    truth[0][8:16, 8:16] = 255
    truth[1][:, :8] = np.where(truth[1][:, :8] == 255, 255, (truth[1][:, :8] + 1) % 19)
    dataset.labels, dataset.image = truth, lambda index: shown[index]
    seen: list[Measured] = []
    scores = evaluate_model(model, dataset, PROTOCOL, observe=seen.append)
    assert [measured.index for measured in seen] == [0, 1]
    assert scores == evaluate_model(model, dataset, PROTOCOL)
    for measured, labels, image in zip(seen, truth, shown, strict=True):
        prediction, right, counted = measured.prediction, measured.right, measured.counted
        assert right.shape == counted.shape == labels.shape
        assert right.dtype == counted.dtype == np.bool_
        assert np.array_equal(prediction.labels, model.predict(image).labels)
        assert np.array_equal(counted, labels != 255)
        assert np.array_equal(right[counted], (prediction.labels == labels)[counted])
    hits = sum(int((measured.right & measured.counted).sum()) for measured in seen)
    total = sum(int(measured.counted.sum()) for measured in seen)
    assert scores.pixel_accuracy == pytest.approx(100 * hits / total)
    assert hits < total


def test_an_observer_is_told_right_and_wrong_in_the_classes_of_the_protocol(
    model: Any, make_dataset: Callable[..., Any]
):
    """Both sides are folded first: a class that the protocol lacks counts as ignored, whatever was answered."""
    protocol = custom_protocol(LabelSpace.from_names("two", ["car", "bus"]))
    dataset = make_dataset(sizes=((8, 24),))
    car, bus, train = (CITYSCAPES19.names.index(name) for name in ("car", "bus", "train"))
    dataset.labels = [np.repeat(np.array([[car, bus, train]], np.uint8), 8, axis=1).repeat(8, axis=0)]
    dataset.image = lambda index: np.full((8, 24, 3), CITYSCAPES19.palette[car], np.uint8)
    seen: list[Measured] = []
    evaluate_model(model, dataset, protocol, observe=seen.append)
    (measured,) = seen
    right, counted = measured.right, measured.counted
    assert np.array_equal(counted, np.repeat([[True, True, False]], 8, axis=1).repeat(8, axis=0))
    assert np.array_equal(right[:, :16], np.repeat([[True, False]], 8, axis=1).repeat(8, axis=0))


# -- folders -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda p: p.name)
@pytest.mark.parametrize("ending", ["", "_gtFine_labelIds"])
def test_folders_score_as_the_model_does(
    tmp_path: Path,
    make_dataset: Callable[..., Any],
    make_model: Callable[..., Any],
    protocol: Any,
    ending: str,
):
    truth, answer = make_dataset(seed=1), make_dataset(seed=2)
    for index in range(2):
        agreed = np.where(
            np.arange(truth.labels[index].shape[1]) % 3 > 0, truth.labels[index], answer.labels[index]
        )
        answer.labels[index] = np.where(agreed == 255, 0, agreed).astype(np.uint8)
        name = f"town/{index:03d}"
        save(tmp_path / "p" / f"{name}_leftImg8bit.png", answer.labels[index])
        to_file = index_to_id(CITYSCAPES19, "cityscapes" if ending else "train")
        save(tmp_path / "t" / f"{name}{ending}.png", to_file[truth.labels[index]])
    truth.image = answer.image
    expected = evaluate_model(make_model(CITYSCAPES19), truth, protocol)
    scores = evaluate_folders(tmp_path / "p", tmp_path / "t", protocol)
    assert scores == expected
    assert 20 < scores.miou < 90


def test_ids_without_a_class_are_misses_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save(tmp_path / "t" / "1.png", np.array([[0, 0, 13, 255]], np.uint8))
    save(tmp_path / "p" / "1.png", np.array([[0, 255, 13, 13]], np.uint8))
    scores = evaluate_folders(tmp_path / "p", tmp_path / "t", PROTOCOL)
    assert scores.iou["road"] == 50
    assert scores.iou["car"] == 100
    assert scores.unlabeled[0] == 1
    assert "33.33% of the labeled pixels are predicted as ids without a class in cityscapes19 (255)" in (
        capsys.readouterr().err
    )
    two = custom_protocol(LabelSpace("two", CITYSCAPES19.classes[:2]))
    save(tmp_path / "t" / "1.png", np.array([[0, 0, 1, 255]], np.uint8))
    evaluate_folders(tmp_path / "p", tmp_path / "t", two)
    assert "66.67% of the labeled pixels are predicted as ids without a class in custom:two (13, 255)" in (
        capsys.readouterr().err
    )


def test_label_ids_are_told_from_train_ids_by_what_the_files_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    truth = np.array([[0, 10, 13, 18, 255]], np.uint8)
    to_file = index_to_id(CITYSCAPES19, "cityscapes")
    save(tmp_path / "t/ulm/ulm_1_gtFine_labelTrainIds.png", truth)
    save(tmp_path / "t/ulm/ulm_2_gtFine_labelTrainIds.png", np.zeros_like(truth))
    save(tmp_path / "p/ulm_1_leftImg8bit.png", to_file[truth])
    save(tmp_path / "p/ulm_2_leftImg8bit.png", to_file[np.zeros_like(truth)])
    scores = evaluate_folders(tmp_path / "p", tmp_path / "t", PROTOCOL)
    assert scores.miou == 100
    error = capsys.readouterr().err
    assert "the predictions hold Cityscapes labelIds" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("ending", [".tif", ".PNG", ".bmp"])
def test_label_maps_in_other_formats(ending: str, tmp_path: Path):
    truth = np.array([[0, 10, 13, 18]], np.uint8)
    save(tmp_path / "t/1.tiff", truth)
    save(tmp_path / f"p/1{ending}", truth)
    assert evaluate_folders(tmp_path / "p", tmp_path / "t", PROTOCOL).miou == 100


def test_predictions_that_were_scaled_are_explained(tmp_path: Path):
    truth = np.zeros((60, 80), np.uint8)
    cv2.circle(truth, (30, 30), 15, 18, -1)
    save(tmp_path / "t/1.png", np.kron(truth, np.ones((2, 2), np.uint8)))
    save(tmp_path / "p/1.png", cv2.resize(truth * 14, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR))
    with pytest.raises(InputError, match=r"p/1\.png: holds the value .* scaling with interpolation"):
        evaluate_folders(tmp_path / "p", tmp_path / "t", PROTOCOL)


def test_indices_of_own_classes(tmp_path: Path):
    protocol = custom_protocol(LabelSpace.from_names("cracks", ["asphalt", "crack"]))
    save(tmp_path / "t" / "1.png", np.array([[0, 1, 255]], np.uint8))
    save(tmp_path / "p" / "1.png", np.array([[0, 0, 1]], np.uint8))
    assert evaluate_folders(tmp_path / "p", tmp_path / "t", protocol).iou == {"asphalt": 50, "crack": 0}


def test_extra_predictions_are_left_out_with_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("1", "2", "3"):
        save(tmp_path / "p" / f"{name}.png", np.zeros((2, 2), np.uint8))
    save(tmp_path / "t" / "2.png", np.zeros((2, 2), np.uint8))
    assert evaluate_folders(tmp_path / "p", tmp_path / "t", PROTOCOL).num_images == 1
    error = capsys.readouterr().err
    assert error.startswith("iccld: 2 of 3 predictions have no label map and are left out, for example ")
    assert error.count("\n") == 1


def test_files_that_cannot_be_measured(tmp_path: Path):
    truth, answer = tmp_path / "t" / "1.png", tmp_path / "p" / "1.png"

    def expect(message: str) -> None:
        with pytest.raises(InputError, match=message) as caught:
            evaluate_folders(tmp_path / "p", tmp_path / "t", PROTOCOL)
        assert "\n" not in str(caught.value)

    save(truth, np.zeros((4, 6), np.uint8))
    save(answer, np.zeros((4, 5), np.uint8))
    expect(r"p/1\.png: is 5×4 pixels, but its label map .*t/1\.png is 6×4 pixels")
    save(answer, np.full((4, 6), 40, np.uint8))
    expect(r"p/1\.png: holds the value 40, which is none of the trainIds.*_labelIds\.png")
    save(answer, np.zeros((4, 6), np.uint8))
    save(truth, np.full((4, 6), 300, np.uint16))
    expect(r"t/1\.png: holds the value 300")
    save(truth, np.full((4, 6), 255, np.uint8))
    expect("no labeled pixel in 1 images")
    answer.write_bytes(answer.read_bytes()[:30])
    expect(r"p/1\.png: ")
    answer.write_bytes(b"")
    expect(r"p/1\.png: ")
    truth.rename(tmp_path / "t" / "1_labelIds.png")
    save(tmp_path / "t" / "1_labelIds.png", np.full((4, 6), 99, np.uint8))
    save(answer, np.zeros((4, 6), np.uint8))
    expect(r"1_labelIds\.png: holds the value 99, which is none of the Cityscapes labelIds")


def test_label_maps_with_the_ids_of_a_description(tmp_path: Path):
    path = tmp_path / "dataset.toml"
    text = 'images = "*.jpg"\nlabels = "*.png"\nclasses = ["field", "barn"]\nignore = [9]\n'
    text += 'ids = { 0 = "field", 255 = "barn" }'
    path.write_text(text, encoding="utf-8")
    own = read_description(path)
    save(tmp_path / "p/a.png", np.array([[0, 255, 255, 0]], np.uint8))
    save(tmp_path / "t/a.png", np.array([[0, 255, 0, 9]], np.uint8))
    scores = evaluate_folders(tmp_path / "p", tmp_path / "t", custom_protocol(own.space), own=own)
    assert scores.iou == {"field": 50, "barn": 50}
    save(tmp_path / "p/a.png", np.array([[0, 1, 1, 0]], np.uint8))
    with pytest.raises(InputError, match=r"holds the value 1, which is none of the ids of .*predict --ids"):
        evaluate_folders(tmp_path / "p", tmp_path / "t", custom_protocol(own.space), own=own)
