"""Scores of a model on unlabeled images, for the choice of settings and models without target labels."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float32, UInt8

from iccld.inference.segmenter import Segmenter, predict_image

_NUM_PIXELS = 400
_TEMPERATURE = 0.05


def label_free_scores(
    model: Segmenter, images: Iterable[UInt8[np.ndarray, "h w 3"]], *, seed: int = 0
) -> dict[str, float]:
    """Returns scores of a model on unlabeled images. All values are means over the images.

    Args:
        model: Model to score.
        images: RGB images.
        seed: Seed of the pixels that are drawn for ``snd``.

    Returns:
        ``entropy`` is the mean relative entropy of the class probabilities (lower is better; Morerio et al. 2018).
        ``agreement`` is the fraction of pixels with equal predictions for the image and its mirror image (higher is
        better). ``snd`` is the soft neighborhood density, the mean relative entropy of the similarities between the
        probabilities of 400 random pixels (higher is better; Saito et al. 2021, eq. 3, with temperature 0.05).
    """
    rng = np.random.default_rng(seed)
    rows = []
    for image in images:
        prediction = predict_image(model, image)
        mirrored = predict_image(model, np.ascontiguousarray(image[:, ::-1])).labels[:, ::-1]
        pixels = prediction.probabilities.reshape(len(model.label_space), -1)
        drawn = rng.choice(pixels.shape[1], min(_NUM_PIXELS, pixels.shape[1]), replace=False)
        entropy = float(prediction.relative_uncertainty.mean(dtype="float64"))
        rows.append(
            (entropy, float((prediction.labels == mirrored).mean()), neighborhood_density(pixels[:, drawn]))
        )
    means = np.mean(rows, axis=0).tolist()
    return dict(zip(("entropy", "agreement", "snd"), means, strict=True))


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
