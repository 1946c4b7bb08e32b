"""Prediction on overlapping windows of an image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Maps = tuple[Float[Tensor, "b k _ _"], Float[Tensor, "b m _ _"]]
"""Class probabilities, and further per-pixel values on the same grid, such as the mutual information."""


def predict_windows(
    predict: Callable[[Tensor], Maps],
    batch: Float[Tensor, "b 3 h w"],
    window: tuple[int, int],
    overlap: float,
) -> Maps:
    """Segments images in overlapping windows, and averages the results of the windows at every pixel.

    ``predict`` segments a batch of windows and returns ``Maps`` at the size of the windows.
    """
    height, width = batch.shape[-2:]
    total, num_classes = None, 0
    counts = torch.zeros(height, width, device=batch.device)
    for top, left in window_positions((height, width), window, overlap):
        rows, columns = slice(top, top + window[0]), slice(left, left + window[1])
        probabilities, others = predict(batch[..., rows, columns])
        maps = torch.cat([probabilities, others], dim=1)
        if total is None:
            num_classes = probabilities.shape[1]
            total = maps.new_zeros(*maps.shape[:2], height, width)
        total[..., rows, columns] += maps
        counts[rows, columns] += 1
    assert total is not None
    total /= counts
    return total[:, :num_classes], total[:, num_classes:]


def window_positions(size: tuple[int, int], window: tuple[int, int], overlap: float) -> list[tuple[int, int]]:
    """Returns the top-left corners of evenly spaced windows that cover an image. Sizes are (height, width).

    Neighboring windows share at least the fraction ``overlap`` of a window. If a window is longer than the image along
    an axis, a single window covers this axis.
    """
    axes = []
    for side, extent in zip(size, window, strict=True):
        last = max(0, side - extent)
        count = -(-last // max(1, int(extent * (1 - overlap)))) + 1
        axes.append([round(i * last / (count - 1)) if count > 1 else 0 for i in range(count)])
    return [(top, left) for top in axes[0] for left in axes[1]]
