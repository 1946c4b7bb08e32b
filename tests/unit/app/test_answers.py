from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from iccld.app.answers import Answers, AnswerStore, answer_image
from iccld.app.models import AppModel
from iccld.errors import InputError

Make = Callable[..., AppModel]


def _image(height: int = 20, width: int = 30) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_answers_are_the_models(make_model: Make) -> None:
    models, image = [make_model(), make_model(name="other")], _image()
    answers = answer_image(models, image, "street.png", steps=3, draws=2)
    assert answers.size == (20, 30)
    for model, answer in zip(models, answers.answers, strict=True):
        prediction = model.segmenter.predict(image)
        np.testing.assert_array_equal(answer.labels, prediction.labels)
        np.testing.assert_array_equal(answer.levels, image[..., 1])
        assert (answer.steps, answer.draws) == (3, 2)
        assert model.segmenter.calls[0]["steps"] == 3
        assert answer.seconds >= 0


def test_pictures_of_the_page_are_no_larger_than_needed(make_model: Make) -> None:
    answers = answer_image([make_model()], _image(40, 90), "wide.png", steps=1, draws=1, view_side=30)
    answer = answers.answers[0]
    assert answers.view.shape == (13, 30, 3)
    assert answer.view_labels.shape == answer.view_levels.shape == (13, 30)
    assert answer.labels.shape == (40, 90), "downloads have the image's size"
    assert set(np.unique(answer.view_labels)) <= set(np.unique(answer.labels)), "classes are not mixed"


@pytest.fixture
def answers(make_model: Make) -> Answers:
    return answer_image([make_model()], _image(), "street.png", steps=1, draws=1)


def test_store_drops_the_answers_used_longest_ago(answers: Answers) -> None:
    store = AnswerStore(max_bytes=2 * answers.num_bytes)
    first, second = store.put(answers), store.put(answers)
    store.get(first)
    third = store.put(answers)
    assert store.get(first) is answers
    assert store.get(third) is answers
    with pytest.raises(InputError, match="no longer kept; upload the image again"):
        store.get(second)


def test_store_keeps_the_newest_whatever_its_size(answers: Answers) -> None:
    store = AnswerStore(max_bytes=1)
    store.put(answers)
    key = store.put(answers)
    assert store.get(key) is answers
    assert len(store) == 1


def test_new_answers_of_a_visitor_replace_the_old(answers: Answers) -> None:
    store = AnswerStore()
    old = store.put(answers)
    new = store.put(replace(answers, name="b.png"), replaces=old)
    assert len(store) == 1
    assert store.get(new).name == "b.png"
    store.drop(new)
    store.drop(new)
    store.drop(None)
    assert len(store) == 0
    with pytest.raises(InputError):
        store.get(None)
