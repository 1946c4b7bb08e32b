"""Labels for the target domain from the teacher, and how much to trust them."""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor


def pseudo_labels(
    probabilities: Float[Tensor, "b k h w"], threshold: float, valid: Bool[Tensor, "b h w"]
) -> tuple[Int[Tensor, "b h w"], Float[Tensor, "b h w"]]:
    """The most probable classes, and one weight per image: the share of its pixels that the teacher is sure of.

    Tranheden et al. 2021 (DACS). Pixels outside ``valid`` (padding, the ego vehicle, borders) weigh nothing.

    Args:
        probabilities: the teacher's, at the resolution wanted.
        threshold: probability from which a pixel counts as sure.
        valid: pixels that may be labelled.

    Returns:
        Labels, and weights in [0, 1].
    """
    confidence, labels = probabilities.max(dim=1)
    sure = (confidence >= threshold) & valid
    share = sure.sum(dim=(1, 2)) / valid.sum(dim=(1, 2)).clamp_min(1)
    return labels, share.view(-1, 1, 1) * valid
