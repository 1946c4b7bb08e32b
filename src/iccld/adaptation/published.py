"""Image augmentations of the rivals' published code."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def hsv_jitter(
    images: Float[Tensor, "b 3 h w"], strength: float = 0.25, probability: float = 0.8
) -> Float[Tensor, "b 3 h w"]:
    """Changes brightness, contrast, saturation and hue as DACS does (kornia's ``ColorJitter``).

    Brightness adds up to ``strength`` either way, contrast multiplies all levels by [1 − strength, 1 + strength],
    saturation multiplies that of HSV by the same range, and hues turn by up to ``strength`` of a full turn either way;
    in a random order for each image, cut to [0, 1] after each. All images of a batch are changed, or none.

    Args:
        images: RGB in [0, 1].
        strength: DACS has 0.25, DAFormer and MIC have 0.2.
        probability: that the batch is changed.
    """
    if float(torch.rand(())) >= probability:
        return images
    changed = []
    with torch.autocast(images.device.type, enabled=False):
        for image in images.float():
            for kind in torch.randperm(4).tolist():
                drawn = strength * (2 * float(torch.rand(())) - 1)
                if kind == 0:
                    image = (image + drawn).clamp(0, 1)
                elif kind == 1:
                    image = (image * (1 + drawn)).clamp(0, 1)
                else:
                    image = _change_hsv(image, *((1 + drawn, 0.0) if kind == 2 else (1.0, drawn)))
            changed.append(image)
    return torch.stack(changed).to(images.dtype)


def _change_hsv(image: Float[Tensor, "3 h w"], saturation: float, turns: float) -> Float[Tensor, "3 h w"]:
    """Multiplies the saturation of HSV and turns the hue, in full turns."""
    value, largest = image.max(dim=0)
    spread = value - image.amin(dim=0)
    red, green, blue = image
    # The hue in sixths of a turn; that of gray plays no part.
    sides = torch.stack([green - blue, blue - red, red - green]) / spread.clamp_min(1e-12)
    sixths = sides.gather(0, largest[None])[0] + 2 * largest + 6 * turns
    saturated = (spread / value.clamp_min(1e-12) * saturation).clamp(0, 1)
    places = (torch.tensor([5.0, 3.0, 1.0], device=image.device).view(3, 1, 1) + sixths) % 6
    return value - value * saturated * torch.minimum(places, 4 - places).clamp(0, 1)


def transfer_low_frequencies(
    images: Float[Tensor, "b 3 h w"], styles: Float[Tensor, "b 3 h w"], band: float
) -> Float[Tensor, "b 3 h w"]:
    """Gives images the low-frequency amplitudes of others; phases stay (Yang & Soatto 2020, FDA).

    Levels may leave [0, 1] and are not cut, as in the published code: cutting would change amplitudes and phases again.

    Args:
        images: RGB in [0, 1].
        styles: images whose amplitudes are taken, one for each image, of the same size.
        band: half the side of the square of low frequencies, as a share of the shorter side.
    """
    height, width = images.shape[-2:]
    reach = int(min(height, width) * band)
    with torch.autocast(images.device.type, enabled=False):
        spectrum, style = (torch.fft.fft2(x.float().contiguous()) for x in (images, styles))
        rows, columns = (
            torch.fft.fftfreq(n, 1 / n, device=images.device).abs() <= reach for n in (height, width)
        )
        low = rows[:, None] & columns[None]
        amplitude = torch.where(low, style.abs(), spectrum.abs())
        restyled = torch.fft.ifft2(torch.polar(amplitude, spectrum.angle())).real
    return restyled.to(images.dtype)
