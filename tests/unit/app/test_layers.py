from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from iccld.app.answers import Answers, AppModel, Drawing, answer_image, compose
from iccld.app.service import agreement, legend
from iccld.drawing import heat_map
from iccld.labels import CAMVID11, CITYSCAPES19, LabelSpace

Make = Callable[..., AppModel]
ROAD, CAR, SKY = (CITYSCAPES19.names.index(name) for name in ("road", "car", "sky"))
IMAGE = np.full((2, 2, 3), 100, np.uint8)
LABELS = np.array([[ROAD, ROAD], [CAR, SKY]], np.uint8)
LEVELS = np.array([[0, 50], [100, 255]], np.uint8)


def _compose(**drawing: object) -> np.ndarray:
    return compose(IMAGE, LABELS, LEVELS, CITYSCAPES19, Drawing(**drawing))


def test_opacity_goes_from_the_image_to_the_colors() -> None:
    colors = np.array(CITYSCAPES19.palette, np.uint8)[LABELS]
    np.testing.assert_array_equal(_compose(opacity=0), IMAGE)
    np.testing.assert_array_equal(_compose(opacity=100), colors)
    half = (IMAGE.astype(float) + colors) / 2
    np.testing.assert_allclose(_compose(opacity=50), half, atol=0.51)


def test_hidden_classes_show_the_image_in_either_layer() -> None:
    for layer in ("classes", "uncertainty"):
        hidden = _compose(opacity=100, layer=layer, hidden=("road",))
        np.testing.assert_array_equal(hidden[0], IMAGE[0])
        np.testing.assert_array_equal(hidden[1], _compose(opacity=100, layer=layer)[1])
        assert (hidden[1] != IMAGE[1]).any()


def test_uncertainty_is_the_heat_that_predict_writes() -> None:
    np.testing.assert_array_equal(
        _compose(opacity=100, layer="uncertainty"), heat_map(LEVELS.astype(np.float32) / 255)
    )


def _answers(models: list[AppModel], red: np.ndarray) -> Answers:
    image = np.stack([red, red, red], axis=-1).astype(np.uint8)
    return answer_image(models, image, "street.png", steps=1, draws=1)


def test_drawing_asks_no_model_again(make_model: Make) -> None:
    model = make_model()
    answers = _answers([model], LABELS)
    pictures = [answers.draw(0, Drawing(opacity)) for opacity in (20, 90)]
    assert (pictures[0] != pictures[1]).any()
    assert len(model.segmenter.calls) == 1


def test_legend_has_what_occurs_first_with_its_share(make_model: Make) -> None:
    models = [make_model()]
    entries = legend(models, _answers(models, LABELS))
    assert [e["name"] for e in entries[:3]] == ["road", "sky", "car"]
    assert [e["text"] for e in entries[:4]] == ["road 50.0 %", "sky 25.0 %", "car 25.0 %", "sidewalk"]
    assert entries[0]["color"] == CITYSCAPES19.palette[ROAD]
    assert [e["occurs"] for e in entries] == [True] * 3 + [False] * 16
    assert [e["name"] for e in legend(models)] == list(CITYSCAPES19.names), "before the first answer"


def test_tiny_shares_are_not_called_none(make_model: Make) -> None:
    models, labels = [make_model()], np.zeros((100, 100))
    labels[0, 0] = CAR
    assert legend(models, _answers(models, labels))[1]["text"] == "car <0.1 %"


def test_legend_of_two_models_with_different_classes(make_model: Make) -> None:
    models = [make_model(), make_model(CAMVID11, "other")]
    entries = {e["name"]: e["text"] for e in legend(models, _answers(models, np.zeros((4, 4))))}
    first = CAMVID11.names[0]
    assert entries["road"] == f"road 100.0 / {100 if first == 'road' else 0:.1f} %"
    assert entries["terrain"] == "terrain", "a class without a pixel has no shares"
    assert set(entries) == set(CITYSCAPES19.names) | set(CAMVID11.names)


def test_agreement_counts_pixels(make_model: Make) -> None:
    models = [make_model(), make_model()]
    first = _answers(models, LABELS).answers[0]
    second = _answers(models, np.array([[ROAD, CAR], [CAR, SKY]])).answers[1]
    assert agreement(first, first) == 1.0
    assert agreement(first, second) == pytest.approx(0.75)


def test_agreement_folds_the_finer_classes(make_model: Make) -> None:
    """Rider and bicycle are one class of the coarser model; the finer one's train has no counterpart."""
    fine, coarse = make_model(), make_model(CAMVID11)
    names = ["rider", "bicycle", "road", "train"]
    ids = np.array([[CITYSCAPES19.names.index(name) for name in names]])
    table = CITYSCAPES19.lut_to(CAMVID11)
    folded = np.array([[table[i] if table[i] != 255 else 0 for i in ids[0]]])
    assert table[ids[0, 0]] == table[ids[0, 1]] != 255
    pair = _answers([fine], ids).answers[0], _answers([coarse], folded).answers[0]
    assert agreement(*pair) == agreement(*pair[::-1]) == 1.0


def test_agreement_leaves_out_coarse_classes_that_the_finer_model_lacks(make_model: Make) -> None:
    fine = make_model(LabelSpace.from_names("fine", ("road", "sky", "car")))
    coarse = make_model(LabelSpace.from_names("coarse", ("road", "boat")))
    first, second = np.array([[0, 0, 0]]), np.array([[0, 0, 1]])
    pair = _answers([fine], first).answers[0], _answers([coarse], second).answers[0]
    assert agreement(*pair) == agreement(*pair[::-1]) == 1.0
