"""Scores of a model on unlabeled images, for the choice of settings and models without target labels."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8

from iccld.inference.segmenter import Segmenter, predict_image

_NUM_PIXELS = 400
_TEMPERATURE = 0.05


def label_free_scores(
    model: Segmenter, images: Iterable[UInt8[np.ndarray, "h w 3"]], *, seed: int = 0
) -> dict[str, float]:
    """Returns scores of a model on unlabeled images. All values but ``transfer`` are means over the images.

    Args:
        model: Model to score.
        images: RGB images.
        seed: Seed of the pixels that are drawn for ``snd`` and ``transfer``.

    Returns:
        ``entropy`` is the mean relative entropy of the class probabilities (lower is better; Morerio et al. 2018).
        ``agreement`` is the fraction of pixels with equal predictions for the image and its mirror image (higher is
        better). ``snd`` is the soft neighborhood density, the mean relative entropy of the similarities between the
        probabilities of 400 random pixels (higher is better; Saito et al. 2021, eq. 3, with temperature 0.05).
        ``transfer`` is the transfer score of Yang et al. 2024 without its term for the weights of the classifier
        (higher is better): the Hopkins statistic of the pixels, plus the mutual information of pixels and classes,
        divided by its maximum. The statistic is computed with the probabilities of the same random pixels.
    """
    rng = np.random.default_rng(seed)
    rows, samples, shares = [], [], []
    for image in images:
        prediction = predict_image(model, image)
        mirrored = predict_image(model, np.ascontiguousarray(image[:, ::-1])).labels[:, ::-1]
        pixels = prediction.probabilities.reshape(len(model.label_space), -1)
        drawn = rng.choice(pixels.shape[1], min(_NUM_PIXELS, pixels.shape[1]), replace=False)
        samples.append(pixels[:, drawn])
        shares.append(pixels.mean(axis=1, dtype="float64"))
        entropy = float(prediction.relative_uncertainty.mean(dtype="float64"))
        rows.append(
            (entropy, float((prediction.labels == mirrored).mean()), neighborhood_density(pixels[:, drawn]))
        )
    scores = dict(zip(("entropy", "agreement", "snd"), np.mean(rows, axis=0).tolist(), strict=True))
    share = np.mean(shares, axis=0)
    entropy_of_mean = -float((share * np.log(np.maximum(share, 1e-300))).sum()) / math.log(len(share))
    information = entropy_of_mean - scores["entropy"]
    return scores | {"transfer": hopkins(np.concatenate(samples, axis=1).T, rng) + information}


def hopkins(points: Float32[np.ndarray, "n k"], rng: np.random.Generator) -> float:
    """Returns the Hopkins statistic of points, from 0 to 1: about 0.5 for uniform points, and near 1 for clusters.

    A twentieth of the points are drawn. Their distances to the nearest other point are compared with the distances of
    as many uniform points, in the range of each coordinate, to the nearest point (Hopkins and Skellam 1954).
    """
    count = max(1, len(points) // 20)
    uniform = rng.uniform(points.min(axis=0), points.max(axis=0), (count, points.shape[1]))
    drawn = rng.choice(len(points), count, replace=False)
    distances = _distances(points[drawn], points)
    distances[np.arange(count), drawn] = math.inf
    of_uniform, of_drawn = _distances(uniform, points).min(axis=1).sum(), distances.min(axis=1).sum()
    # All points can be equal, for example if the model predicts one class everywhere.
    return float(of_uniform / (of_uniform + of_drawn)) if of_uniform + of_drawn > 0 else 0.0


def _distances(
    first: Float[np.ndarray, "m k"], second: Float[np.ndarray, "n k"]
) -> Float64[np.ndarray, "m n"]:
    first, second = first.astype(np.float64), second.astype(np.float64)
    squared = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2 * first @ second.T
    return np.sqrt(np.maximum(squared, 0.0))


def neighborhood_density(probabilities: Float32[np.ndarray, "k n"]) -> float:
    """Returns the soft neighborhood density of n samples, from 0 to 1.

    Each sample's cosine similarities to all others are divided by the temperature 0.05 and normalized with a softmax.
    The result is the mean entropy of these distributions, divided by the logarithm of n − 1.
    """
    unit = probabilities / np.linalg.norm(probabilities, axis=0)
    logits = (unit.T @ unit).astype(np.float64) / _TEMPERATURE
    np.fill_diagonal(logits, -math.inf)
    logits -= logits.max(axis=1, keepdims=True)
    weights = np.exp(logits)
    weights /= weights.sum(axis=1, keepdims=True)
    terms = np.where(weights > 0, weights * np.log(np.maximum(weights, 1e-300)), 0.0)
    return float(-terms.sum(axis=1).mean() / math.log(len(weights) - 1))
