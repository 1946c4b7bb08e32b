"""How far the latents of two domains lie apart."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from iccld.compute import full_precision, to_device


@torch.no_grad()
def sliced_wasserstein(
    first: Float[Tensor, "n d h w"], second: Float[Tensor, "m d h2 w2"], num_projections: int = 32
) -> Float[Tensor, ""]:
    """Sliced Wasserstein-1 distance between the cells of two sets of latents (Rabin et al. 2011).

    Every cell is a point in d dimensions. Points are projected on fixed random directions, where the distance
    between two distributions is the mean distance of equal quantiles; the mean over directions is returned. In the
    units of the latents, whose cells have a root mean square of about 1 per channel.

    Args:
        first: latents of one domain.
        second: latents of the other.
        num_projections: directions; always the same ones, so that figures compare and no random state moves.
    """
    d = first.shape[1]
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(d, num_projections, generator=generator)
    directions = to_device(torch.nn.functional.normalize(drawn, dim=0), first.device)
    with full_precision(first.device):
        points = [x.float().movedim(1, -1).reshape(-1, d) @ directions for x in (first, second)]
    sorted_points = [p.sort(dim=0).values for p in points]
    num = min(len(p) for p in sorted_points)
    # Quantiles at the middle of equal shares; where one set is larger, its nearest points stand for them.
    middles = (torch.arange(num, device=first.device) + 0.5) / num
    quantiles = [p[(middles * len(p)).long()] for p in sorted_points]
    return (quantiles[0] - quantiles[1]).abs().mean()
