from __future__ import annotations

import json
import math

import pytest
import torch

from iccld.labels import CAMVID11, CITYSCAPES19, PROTOCOLS, LabelSpace, custom_protocol
from iccld.metrics import ConfusionMatrix, Scores, scores_from_confusion

PAIR = LabelSpace.from_names("pair", ["ground", "thing"])


def matrix(num_classes: int, prediction: list[int], target: list[int]) -> ConfusionMatrix:
    result = ConfusionMatrix(num_classes)
    result.update(torch.tensor(prediction), torch.tensor(target))
    return result


def test_counts_put_truth_in_rows_and_prediction_in_columns():
    counts = matrix(3, [0, 1, 1, 2], [0, 0, 1, 1]).counts
    assert counts.dtype == torch.int64
    assert counts.tolist() == [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_ignored_truth_is_not_counted_whatever_was_predicted():
    assert matrix(2, [0, 1, 255], [255, 255, 255]).counts.sum() == 0


def test_unlabeled_prediction_misses_its_class_and_accuses_no_other():
    scores = scores_from_confusion(matrix(2, [0, 255, 1, 1], [0, 0, 1, 1]), custom_protocol(PAIR))
    assert scores.iou == {"ground": 50.0, "thing": 100.0}
    assert scores.unlabeled == (1, 0)
    assert scores.pixel_accuracy == 75.0


def test_updates_add_up_in_any_order_and_shape():
    generator = torch.Generator().manual_seed(0)
    prediction = torch.randint(0, 5, (4, 6, 7), generator=generator)
    target = torch.randint(0, 5, (4, 6, 7), generator=generator)
    whole, parts = ConfusionMatrix(5), ConfusionMatrix(5)
    whole.update(prediction, target)
    for index in (2, 0, 3, 1):
        parts.update(prediction[index].to(torch.uint8), target[index].to(torch.uint8))
    assert torch.equal(whole.counts, parts.counts)
    assert whole.counts.sum() == target.numel()


def test_labels_beyond_the_classes_are_a_bug():
    with pytest.raises(AssertionError, match="target"):
        matrix(2, [0], [2])
    with pytest.raises(AssertionError, match="prediction"):
        matrix(2, [3], [0])
    with pytest.raises(AssertionError):
        matrix(2, [0, 1], [0])


def test_absent_class_has_no_iou_and_stays_out_of_the_mean():
    scores = scores_from_confusion(matrix(3, [0, 0], [0, 0]), custom_protocol(three()))
    assert scores.iou == {"a": 100.0, "b": None, "c": None}
    assert scores.miou == 100.0
    assert scores.mean_accuracy == 100.0


def test_class_predicted_but_never_true_has_iou_zero_and_no_accuracy():
    scores = scores_from_confusion(matrix(3, [0, 1], [0, 0]), custom_protocol(three()))
    assert scores.iou == {"a": 50.0, "b": 0.0, "c": None}
    assert scores.accuracy == {"a": 50.0, "b": None, "c": None}
    assert scores.miou == 25.0


def test_nothing_counted_gives_nan_and_json_null():
    scores = scores_from_confusion(ConfusionMatrix(2), custom_protocol(PAIR))
    assert math.isnan(scores.miou)
    value = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    assert value["miou"] is None
    assert value["pixel_accuracy"] is None
    assert math.isnan(Scores.from_json(value).miou)


def test_synthia_protocols_count_nineteen_classes_and_average_sixteen_or_thirteen():
    car, truck, wall = 13, 14, 3
    confusion = matrix(19, [car, truck, car, wall], [car, car, truck, wall])
    sixteen = scores_from_confusion(confusion, PROTOCOLS["synthia16"])
    thirteen = scores_from_confusion(confusion, PROTOCOLS["synthia13"])
    # One of two cars was taken for a truck, and one truck for a car: both stay errors of car.
    assert sixteen.iou["car"] == pytest.approx(100 / 3)
    assert "truck" not in sixteen.iou
    assert sixteen.miou == pytest.approx((100 / 3 + 100) / 2)
    assert len(sixteen.iou) == 16
    assert len(thirteen.iou) == 13
    assert thirteen.miou == pytest.approx(100 / 3)
    assert len(sixteen.confusion) == 19
    assert sixteen.pixel_accuracy == pytest.approx(200 / 3)


def test_json_holds_what_scripts_read_and_comes_back():
    scores = scores_from_confusion(matrix(11, [0, 1, 2], [0, 1, 3]), PROTOCOLS["camvid11"], num_images=7)
    value = json.loads(json.dumps(scores.to_json(model="runs/a", steps=2)))
    assert value["miou"] == scores.miou == 50.0
    assert value["iou"]["road"] == 100.0
    assert value["iou"]["sky"] is None
    assert value["num_images"] == 7
    assert value["protocol"] == "camvid11"
    assert value["classes"] == list(CAMVID11.names)
    assert value["confusion"][3][2] == 1
    assert (value["model"], value["steps"]) == ("runs/a", 2)
    assert Scores.from_json(value) == scores


def test_plain_square_counts_are_taken_too():
    counts = torch.eye(19, dtype=torch.int64)
    scores = scores_from_confusion(counts, PROTOCOLS["cityscapes19"])
    assert scores.miou == 100.0
    assert scores.unlabeled == (0,) * len(CITYSCAPES19)


def three() -> LabelSpace:
    return LabelSpace.from_names("three", ["a", "b", "c"])
