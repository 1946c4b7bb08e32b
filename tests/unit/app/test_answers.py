from __future__ import annotations

from collections.abc import Callable

import numpy as np

from iccld.app.answers import AppModel, answer_image

Make = Callable[..., AppModel]


def _image(height: int = 20, width: int = 30) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_answers_are_the_models(make_model: Make) -> None:
    models, image = [make_model(), make_model(name="other")], _image()
    answers = answer_image(models, image, "street.png", steps=3, draws=2)
    for model, answer in zip(models, answers.answers, strict=True):
        prediction = model.segmenter.predict(image)
        np.testing.assert_array_equal(answer.labels, prediction.labels)
        np.testing.assert_array_equal(answer.levels, image[..., 1])
        assert model.segmenter.calls[0]["steps"] == 3
        assert answer.seconds >= 0


def test_pictures_of_the_page_are_no_larger_than_needed(make_model: Make) -> None:
    answers = answer_image([make_model()], _image(40, 90), "wide.png", steps=1, draws=1, view_side=30)
    answer = answers.answers[0]
    assert answers.view.shape == (13, 30, 3)
    assert answer.view_labels.shape == answer.view_levels.shape == (13, 30)
    assert answer.labels.shape == (40, 90), "downloads have the image's size"
    assert set(np.unique(answer.view_labels)) <= set(np.unique(answer.labels)), "classes are not mixed"
