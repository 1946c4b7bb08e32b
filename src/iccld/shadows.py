"""Cast shadows: source images darken in patches, as rendered scenes often lack shadows that cameras see."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from iccld.compute import full_precision, to_device

_GRID = (6, 4)
"""Rows and columns of the random field whose contours bound the shadows: on the ground they are wider than deep."""
_SKY_LIGHT = (1.0, 0.95, 0.85)
"""Share of the darkening in red, green and blue: shadows are lit by the sky."""


def cast_shadows(
    images: Float[Tensor, "b 3 h w"],
    probability: float = 0.5,
    *,
    darkest: float = 0.7,
    largest: float = 0.5,
) -> Float[Tensor, "b 3 h w"]:
    """Darkens random regions of images (as Nicolaou et al. 2022, TorMentor, do with plasma fractals).

    A coarse random field is enlarged; where it lies above a level, that much of the light is taken away. The edge of
    a shadow is between one and a few pixels wide.

    Args:
        images: RGB in [0, 1].
        probability: that an image is given shadows.
        darkest: the largest share of the light that a shadow takes; it is drawn from [0.2, darkest].
        largest: the largest share of the image in the shadow, drawn from [0.1, largest].
    """
    b, _, height, width = images.shape
    fields = torch.rand(b, 1, *_GRID)
    areas = 0.1 + (largest - 0.1) * torch.rand(b)
    strengths = 0.2 + (darkest - 0.2) * torch.rand(b)
    widths = 1 + 3 * torch.rand(b)
    strengths = strengths * (torch.rand(b) < probability)
    fields, areas, strengths, widths = (
        to_device(x, images.device) for x in (fields, areas, strengths, widths)
    )
    with full_precision(images.device):
        field = F.interpolate(fields, (height, width), mode="bilinear", align_corners=True)[:, 0]
        levels = torch.stack([f.quantile(1 - a) for f, a in zip(field.flatten(1), areas, strict=True)])
        # The field rises by about a third from one grid point to the next.
        slopes = 3 * height / _GRID[0] / widths
        shade = ((field - levels.view(-1, 1, 1)) * slopes.view(-1, 1, 1) + 0.5).clamp(0, 1)
        tint = to_device(torch.tensor(_SKY_LIGHT), images.device).view(1, 3, 1, 1)
        light = 1 - tint * (strengths.view(-1, 1, 1) * shade)[:, None]
    return (images * light).to(images.dtype)
