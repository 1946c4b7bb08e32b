from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from iccld.inference.evaluation import evaluate_model
from iccld.inference.review import Review, RunEvaluation, choose_unmeasured
from iccld.labels import PROTOCOLS

PROTOCOL = PROTOCOLS["cityscapes19"]


def spoiled(make_dataset: Callable[..., Any], shares: list[int]) -> Any:
    """Images of 24×40 pixels, of which so many rows show another class than the truth."""
    dataset = make_dataset(sizes=((24, 40),) * len(shares))
    shown = [dataset.image(i).copy() for i in range(len(shares))]
    for image, rows in zip(shown, shares, strict=True):
        image[:rows] = np.roll(image[:rows], 8, axis=1)
    dataset.image = lambda index: shown[index]
    return dataset


def test_best_worst_and_random_are_told_apart(model: Any, make_dataset: Callable[..., Any]):
    dataset = spoiled(make_dataset, [8, 0, 24, 16, 0, 24, 8, 16, 8])
    review = Review(PROTOCOL)
    scores = evaluate_model(model, dataset, PROTOCOL, observe=review)
    choices = review.choose(each=2)
    assert [c.role for c in choices] == ["best"] * 2 + ["worst"] * 2 + ["random"] * 2
    by_role = {role: [c.index for c in choices if c.role == role] for role in ("best", "worst", "random")}
    rest = [i for i in range(9) if i not in by_role["random"]]
    ranked = sorted(rest, key=lambda i: -review.mious[i])
    assert [review.mious[i] for i in by_role["best"]] == [review.mious[i] for i in ranked[:2]]
    assert [review.mious[i] for i in by_role["worst"]] == [review.mious[i] for i in ranked[::-1][:2]]
    assert len({c.index for c in choices}) == 6
    assert all(c.miou == review.mious[c.index] for c in choices)
    assert review.choose(each=2) == choices, "the same every time"
    assert review.mious[1] == 100
    assert min(review.mious.values()) < scores.miou < 100
    assert review.trust.figures()["ece"] > 0


def test_every_model_shows_the_same_random_images(model: Any, make_dataset: Callable[..., Any]):
    drawn = []
    for shares in ([8, 0, 24, 16, 0, 24, 8, 16, 8], [0, 24, 0, 8, 16, 8, 24, 0, 16]):
        review = Review(PROTOCOL)
        evaluate_model(model, spoiled(make_dataset, shares), PROTOCOL, observe=review)
        drawn.append([c.index for c in review.choose() if c.role == "random"])
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 3


@pytest.mark.parametrize(
    ("count", "roles"), [(1, ["best"]), (2, ["best", "worst"]), (3, ["best", "worst", "random"])]
)
def test_few_images_are_each_shown_once(
    count: int, roles: list[str], model: Any, make_dataset: Callable[..., Any]
):
    review = Review(PROTOCOL)
    evaluate_model(model, spoiled(make_dataset, [8 * i for i in range(count)]), PROTOCOL, observe=review)
    choices = review.choose()
    assert [c.role for c in choices] == roles
    assert len({c.index for c in choices}) == count


def test_images_without_labeled_pixels_are_not_ranked(model: Any, make_dataset: Callable[..., Any]):
    dataset = make_dataset()
    dataset.labels[1] = np.full_like(dataset.labels[1], 255)
    review = Review(PROTOCOL)
    evaluate_model(model, dataset, PROTOCOL, observe=review)
    assert [c.index for c in review.choose()] == [0]


def test_unmeasured_images_are_drawn_once_each():
    choices = choose_unmeasured(20)
    assert len({c.index for c in choices}) == 6
    assert {(c.role, c.miou) for c in choices} == {("random", None)}
    assert [c.index for c in choose_unmeasured(2)] == [0, 1]


def test_some_images_lie_at_even_distances(model: Any, make_dataset: Callable[..., Any]):
    dataset = spoiled(make_dataset, [0, 8, 16, 24, 32])
    evaluation = RunEvaluation(dataset, PROTOCOL)
    assert evaluation.of_some(0) is evaluation.of_some(5) is evaluation.of_some(9) is evaluation
    some = evaluation.of_some(3)
    assert some.indices == [0, 2, 4]
    whole, few = evaluation(model, model)["val/miou"], some(model, model)["val/miou"]
    assert evaluation.last is not None
    assert some.last is not None
    assert list(some.last[1].mious.values()) == [evaluation.last[1].mious[i] for i in (0, 2, 4)]
    assert whole != few


def test_the_last_evaluation_of_a_run_is_kept(model: Any, make_dataset: Callable[..., Any]):
    dataset = make_dataset()
    evaluation = RunEvaluation(dataset, PROTOCOL)
    assert evaluation.last is None
    figures = evaluation(model, model)
    assert evaluation.last is not None
    scores, review = evaluation.last
    assert figures["val/miou"] == scores.miou == 100
    assert set(review.mious) == {0, 1}
    assert figures["val/agreement"] == 1
