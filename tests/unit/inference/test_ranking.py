from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from scipy.spatial.distance import cdist
from scipy.stats import entropy

from iccld.errors import InputError
from iccld.inference.ranking import rank, score_prediction, write_ranking
from iccld.inference.segmenter import describe_without_features
from iccld.models.prediction import Prediction

DIMENSIONS = 8


def unit(seed: int, count: int = 1) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, DIMENSIONS))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def copies(vector: np.ndarray, count: int, spread: float = 1e-3) -> np.ndarray:
    near = vector + spread * np.random.default_rng(1).normal(size=(count, DIMENSIONS))
    return near / np.linalg.norm(near, axis=1, keepdims=True)


# -- scores ------------------------------------------------------------------------------------------


def prediction(num_classes: int = 5) -> Prediction:
    draws = np.random.default_rng(0).dirichlet(np.ones(num_classes), (3, 6, 8)).transpose(0, 3, 1, 2)
    mean = draws.mean(0)
    information = entropy(mean, axis=0) - entropy(draws, axis=1).mean(0)
    return Prediction(
        mean.argmax(0).astype(np.uint8),
        mean.astype(np.float32),
        information.astype(np.float32),
    )


def test_scores_are_means_over_the_pixels():
    one = prediction()
    ordered = np.sort(one.probabilities, axis=0)
    assert score_prediction(one) == pytest.approx(
        (entropy(one.probabilities, axis=0) / np.log(5)).mean(), rel=1e-5
    )
    assert score_prediction(one, "margin") == pytest.approx(1 - (ordered[-1] - ordered[-2]).mean(), rel=1e-5)
    assert score_prediction(one, "mutual_information") == pytest.approx(
        one.mutual_information.mean() / np.log(5), rel=1e-5
    )


# -- order -------------------------------------------------------------------------------------------


def test_one_of_ten_near_duplicates_is_chosen():
    """Ten copies of the most uncertain frame, and four others of which the model is surer."""
    vectors = np.concatenate([copies(unit(0)[0], 10), unit(5, 4)])
    scores = [0.9 + 0.001 * i for i in range(10)] + [0.2, 0.1, 0.3, 0.15]
    order = [item.index for item in rank(scores, vectors, top=5)]
    assert order[0] == 9
    assert set(order[1:5]) == {10, 11, 12, 13}
    alone = [item.index for item in rank(scores, vectors, top=5, diversity=0)]
    assert alone == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 12, 10, 13, 11]


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.7, 1.0]), min_size=1, max_size=20),
    st.integers(1, 25),
    st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    st.integers(0, 3),
)
def test_every_frame_once_in_a_greedy_order(scores: list[float], top: int, diversity: float, seed: int):
    vectors = np.repeat(unit(seed, -(-len(scores) // 2)), 2, axis=0)[: len(scores)]  # exact duplicates too
    order = rank(scores, vectors, top=top, diversity=diversity)
    assert sorted(item.index for item in order) == list(range(len(scores)))
    assert order == rank(scores, vectors, top=top, diversity=diversity)
    assert [item.score for item in order] == [scores[item.index] for item in order]
    distances = cdist(vectors, vectors)
    indices = [item.index for item in order]
    for place, item in enumerate(order):
        before = indices[: min(place, top)]
        if not before:
            assert (item.distance, item.neighbor) == (None, None)
            assert item.score == max(scores)
            continue
        assert item.neighbor in before
        assert item.distance == pytest.approx(distances[item.index, before].min(), abs=1e-9)
        assert distances[item.index, item.neighbor] == pytest.approx(item.distance, abs=1e-9)
        gain = item.score * item.distance**diversity
        for other in indices[place:]:  # nothing that was left would have been worth more
            assert scores[other] * distances[other, before].min() ** diversity <= gain + 1e-9


def test_settings_that_make_no_sense():
    for settings, message in (
        ({"top": 0}, "top is 0"),
        ({"top": 1, "diversity": -1.0}, "diversity is -1"),
        ({"top": 1, "diversity": float("nan")}, "diversity is nan"),
    ):
        with pytest.raises(InputError, match=message):
            rank([0.5], unit(0), **settings)


def test_the_csv_says_where_every_frame_stands(tmp_path: Path):
    order = rank([0.5, 0.25, 0.125], unit(0, 3), top=2, diversity=0)
    file = write_ranking(
        tmp_path / "rank.csv", order, [("a, b.png", None), ("clip.mp4", 120), ("c.png", None)]
    )
    with open(file, encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(r["rank"], r["file"], r["frame"], r["score"]) for r in rows] == [
        ("1", "a, b.png", "", "0.500000"),
        ("2", "clip.mp4", "120", "0.250000"),
        ("3", "c.png", "", "0.125000"),
    ]
    assert (rows[0]["distance"], rows[0]["neighbor"]) == ("", "")
    distances = cdist(unit(0, 3), unit(0, 3))
    assert float(rows[1]["distance"]) == pytest.approx(distances[1, 0], abs=1e-6)
    assert rows[1]["neighbor"] == "a, b.png"
    assert rows[2]["neighbor"] == ("clip.mp4#120" if distances[2, 1] < distances[2, 0] else "a, b.png")


# -- what an image looks like ------------------------------------------------------------------------


def test_without_features_near_duplicates_lie_close_together(model: Any, make_dataset: Any):
    data = make_dataset(sizes=((48, 64),) * 3)
    images = [data.image(i) for i in range(3)]
    images.append(np.roll(images[0], 1, axis=1))
    vectors = [describe_without_features(image, model.predict(image)) for image in images]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    distances = cdist(vectors, vectors)
    assert distances[0, 3] < 0.5 * min(distances[0, 1], distances[0, 2], distances[1, 2])
    black = np.zeros((4, 4, 3), np.uint8)
    assert np.isfinite(describe_without_features(black, model.predict(black))).all()
