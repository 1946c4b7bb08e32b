from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist
from scipy.special import softmax
from scipy.stats import entropy

from iccld.inference.label_free import hopkins, label_free_scores, neighborhood_density
from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD
from iccld.models.prediction import Prediction


def test_density_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(6, 0.3), 50).T.astype(np.float32)
    similarities = 1 - cdist(probabilities.T.astype(np.float64), probabilities.T.astype(np.float64), "cosine")
    rows = [np.delete(row, number) for number, row in enumerate(similarities)]
    expected = np.mean([entropy(softmax(row / 0.05)) for row in rows]) / np.log(49)
    assert neighborhood_density(probabilities) == pytest.approx(expected, abs=1e-5)


def test_density_of_one_class_is_one_and_of_distinct_pairs_is_low() -> None:
    assert neighborhood_density(np.tile(np.eye(5, dtype=np.float32)[:, :1], 30)) == pytest.approx(1)
    pairs = np.eye(20, dtype=np.float32).repeat(2, axis=1)
    assert neighborhood_density(pairs) < 0.02


def test_hopkins_tells_clusters_from_uniform_points() -> None:
    rng = np.random.default_rng(0)
    uniform = rng.random((2000, 3), np.float32)
    clusters = rng.random((4, 3), np.float32).repeat(500, axis=0) + rng.normal(0, 0.01, (2000, 3)).astype(
        "float32"
    )
    assert hopkins(uniform, rng) == pytest.approx(0.5, abs=0.08)
    assert hopkins(clusters, rng) > 0.9
    assert hopkins(np.ones((40, 3), np.float32), rng) == 0


def test_hopkins_is_that_of_scipy() -> None:
    points = np.random.default_rng(1).random((200, 4), np.float32)
    value = hopkins(points, np.random.default_rng(7))
    rng = np.random.default_rng(7)
    uniform = rng.uniform(points.min(axis=0), points.max(axis=0), (10, 4))
    drawn = rng.choice(200, 10, replace=False)
    tree = KDTree(points)
    near, own = tree.query(uniform)[0].sum(), tree.query(points[drawn], k=2)[0][:, 1].sum()
    assert value == pytest.approx(near / (near + own), abs=1e-5)


class Fixed:
    """A model that predicts the left and the right half of an image with different confidence."""

    label_space = CAMVID11

    def predict(self, images: object, *args: object, **settings: object) -> Prediction:
        probabilities = np.full((11, 8, 16), 0.01 / 10, np.float32)
        probabilities[0] = 0.99
        probabilities[:, :, :4] = 1 / 11
        probabilities[1, :, :4] += 1e-3
        labels = probabilities.argmax(0).astype(np.uint8)
        return Prediction(labels, probabilities, np.zeros((8, 16), np.float32))


def test_agreement_and_entropy() -> None:
    scores = label_free_scores(Fixed(), [np.zeros((8, 16, 3), np.uint8)] * 2)
    assert (
        scores["agreement"] == 0.5
    )  # the first and the last quarter of the columns differ from their mirror images
    quarter = 0.25 + 0.75 * entropy([0.99, *[0.001] * 10]) / np.log(11)
    assert scores["entropy"] == pytest.approx(quarter, abs=1e-3)
    share = np.array([0.75 * 0.99 + 0.25 / 11, *[0.75 * 0.001 + 0.25 / 11] * 10])
    information = entropy(share) / np.log(11) - quarter
    assert information < scores["transfer"] < 1 + information + 0.01, "the Hopkins statistic is from 0 to 1"


def test_scores_of_a_network_depend_on_the_seed_of_pixels_alone() -> None:
    model = ICCLD(CAMVID11, width=16, latent_channels=4).eval()
    images = [np.random.default_rng(n).integers(0, 256, (64, 96, 3), dtype=np.uint8) for n in range(2)]
    first, same, other = (label_free_scores(model, images, seed=seed) for seed in (0, 0, 1))
    assert first == same
    assert first["snd"] != other["snd"]
    assert (first["entropy"], first["agreement"]) == (other["entropy"], other["agreement"])
