"""Prediction on whole images or sliding windows, with several noise draws and the resulting uncertainty."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from iccld.compute import autocast
from iccld.errors import InputError
from iccld.models.layers import upsample_to
from iccld.models.settings import PredictSettings, check_memory
from iccld.resizing import base_size, resize_images

Maps = tuple[Float[Tensor, "b k _ _"], Float[Tensor, "b m _ _"]]
"""Class probabilities, and further per-pixel values on the same grid, such as the mutual information."""

_MAX_SCALED_PIXELS = 64_000_000  # maximum size of an enlarged image


@dataclass(frozen=True)
class Prediction:
    """Segmentation of one image or of a batch of images. The arrays of a batch have a leading batch axis.

    Attributes:
        labels: Index of the most probable class in the model's label space, for every pixel.
        probabilities: Probabilities of the classes, averaged over the draws. They sum to 1.
        mutual_information: Part of the uncertainty that is due to disagreement between draws, in nats. It is the
            entropy of the mean probabilities minus the mean entropy of the draws. It is computed in cells and
            interpolated to pixels. It is 0 with one draw and never exceeds the uncertainty.
    """

    labels: UInt8[np.ndarray, "*b h w"]
    probabilities: Float32[np.ndarray, "*b k h w"]
    mutual_information: Float32[np.ndarray, "*b h w"]

    @cached_property
    def uncertainty(self) -> Float32[np.ndarray, "*b h w"]:
        """Entropy of the probabilities in nats, from 0 (certain) to log k (uniform)."""
        probabilities = self.probabilities
        if not probabilities.flags.writeable:  # copied, because torch warns about read-only arrays
            probabilities = probabilities.copy()
        return cast(Any, entropy(torch.from_numpy(probabilities)).numpy())

    @property
    def relative_uncertainty(self) -> Float32[np.ndarray, "*b h w"]:
        """Uncertainty divided by its maximum log k, from 0 (certain) to 1 (uniform) for any number of classes."""
        return self.uncertainty / self._most

    @property
    def relative_mutual_information(self) -> Float32[np.ndarray, "*b h w"]:
        """Mutual information divided by log k."""
        return self.mutual_information / self._most

    def of_image(self, index: int) -> Prediction:
        """Returns the prediction of one image of a batch."""
        return Prediction(self.labels[index], self.probabilities[index], self.mutual_information[index])

    @property
    def _most(self) -> np.float32:
        return np.float32(math.log(max(2, self.probabilities.shape[-3])))


class Predictor(nn.Module):
    """Base class of networks that encode images and then denoise label latents, conditioned on the images."""

    def _predict(self, batch: Float[Tensor, "b 3 h w"], settings: PredictSettings) -> Prediction:
        model: Any = self  # Any, because subclasses define the attributes
        size = (batch.shape[-2], batch.shape[-1])
        check_memory(len(batch), size, len(model.label_space))
        height = model.spec.input_height if settings.input_height is None else settings.input_height
        batch = _to_input_height(batch.to(next(self.parameters()).device), height)
        seen = (batch.shape[-2], batch.shape[-1])
        was_training = self.training
        self.eval()
        try:
            with torch.inference_mode(), torch.random.fork_rng(devices=[]):
                # Without devices, fork_rng restores only the CPU generator, so only this generator is seeded.
                torch.default_generator.manual_seed(settings.seed)
                maps, stride = _predict_maps(model, batch, settings)
                # Probabilities are interpolated instead of logits, because softmax per cell is cheaper than per pixel.
                full, information = to_pixels(maps, stride, seen, None if size == seen else size)
                # argmax would take four times as long on CPUs.
                labels = full.max(dim=1).indices.to(torch.uint8)
                arrays = (labels, full, information[:, 0])
                return Prediction(*(cast(Any, array.cpu().numpy()) for array in arrays))
        finally:
            self.train(was_training)


def _predict_maps(model: Any, batch: Float[Tensor, "b 3 h w"], settings: PredictSettings) -> tuple[Maps, int]:
    """Returns the maps of a batch and their stride. With windows, maps are averaged per pixel, so the stride is 1."""
    stride = model.label_decoder.out_stride
    if settings.window is None:
        return _predict_whole(model, batch, settings), stride

    def in_pixels(tile: Tensor) -> Maps:
        return to_pixels(_predict_whole(model, tile, settings), stride, (tile.shape[-2], tile.shape[-1]))

    return predict_windows(in_pixels, batch, settings.window, settings.overlap), 1


def _predict_whole(model: Any, images: Float[Tensor, "b 3 h w"], settings: PredictSettings) -> Maps:
    """Segments images without windows, at the decoder's stride. The returned maps are fp32 at every precision."""
    steps, draws = settings.steps or 1, settings.draws or 1
    images = images.contiguous(memory_format=torch.channels_last)
    # CPUs process one image at a time, for the reasons given in average_draws.
    parts = images.split(1 if images.device.type == "cpu" else len(images))
    noise: Tensor | None = None
    maps: list[Maps] = []
    for part in parts:
        with autocast(images.device.type, settings.precision):
            state = model.encode(part)
            if noise is None:  # the same noise for all images, so that a result does not depend on the batch
                noise = model.draw_noise(state, draws)
            maps.append(average_draws(model, state, noise.repeat(len(part), 1, 1, 1), steps, draws))
    probabilities, others = zip(*maps, strict=True)
    return torch.cat(probabilities), torch.cat(others)


def _to_input_height(batch: Float[Tensor, "b 3 h w"], height: int) -> Float[Tensor, "b 3 h2 w2"]:
    """Scales images to the model's input height, so that objects have about the same size as in training."""
    if height <= 0 or batch.shape[-2] == height:
        return batch
    size = (batch.shape[-2], batch.shape[-1])
    scaled = base_size(size, (height, 0))
    check_scaled(size, scaled)
    return resize_images(batch, scaled).clamp(0, 1)


def check_scaled(size: tuple[int, int], scaled: tuple[int, int]) -> None:
    """Raises ``InputError`` if scaling enlarges an image to more than 64 million pixels. Sizes are (height, width)."""
    if scaled[0] * scaled[1] > max(_MAX_SCALED_PIXELS, size[0] * size[1]):
        raise InputError(
            f"an image of {size[1]}×{size[0]} pixels would be scaled to {scaled[1]}×{scaled[0]}, too many; "
            "give the size that the model is to see with --resize H W"
        )


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

    Neighboring windows share at least the fraction ``overlap`` of a window. If a window is at least as long as
    the image along an axis, a single window covers this axis.
    """

    def along(side: int, extent: int) -> list[int]:
        last = max(0, side - extent)
        count = -(-last // max(1, int(extent * (1 - overlap)))) + 1
        return [round(i * last / (count - 1)) if count > 1 else 0 for i in range(count)]

    return list(itertools.product(along(size[0], window[0]), along(size[1], window[1])))


def entropy(probabilities: Float[Tensor, "*b k h w"]) -> Float[Tensor, "*b h w"]:
    """Returns the entropy over the classes in nats, in [0, log k]."""
    raw = torch.special.entr(probabilities).sum(dim=-3)
    return raw.clamp(0.0, math.log(probabilities.shape[-3]))


def average_draws(model: Any, state: Any, noise: Float[Tensor, "n d h2 w2"], steps: int, draws: int) -> Maps:
    """Averages class probabilities of b encoded images over noise draws, each sampled in ``steps`` steps.

    ``state`` is the output of ``model.encode``. ``noise`` has b × draws samples, where the samples of one image are
    consecutive. Returns the mean probabilities and the mutual information in nats.
    """
    # CPUs process one draw at a time, because the feature maps of one draw fit into the CPU's cache. This saves memory
    # and a quarter of the time. GPUs are faster with all draws at once. Exported graphs must not contain a loop.
    at_once = 1 if noise.device.type == "cpu" and not torch.compiler.is_exporting() else draws
    repeated = state.repeat(at_once) if at_once > 1 else state
    by_image = noise.unflatten(0, (-1, draws))
    total = entropies = noise.new_zeros(())
    for first in range(0, draws, at_once):
        answers = model.segment(repeated, by_image[:, first : first + at_once].flatten(0, 1), steps)
        total = total + answers.unflatten(0, (-1, at_once)).sum(dim=1)
        if draws > 1:
            entropies = entropies + entropy(answers).unflatten(0, (-1, at_once)).sum(dim=1)
    probabilities = total / draws
    if draws == 1:
        return probabilities, torch.zeros_like(probabilities[:, :1])
    return probabilities, (entropy(probabilities) - entropies / draws).clamp_min(0)[:, None]


def to_pixels(maps: Maps, stride: int, seen: tuple[int, int], size: tuple[int, int] | None = None) -> Maps:
    """Interpolates class probabilities and mutual information from cells to pixels.

    ``seen`` is the height and width of the image that the model received. A cell covers ``stride`` × ``stride`` pixels
    of this image, and cells at the right and bottom border can extend beyond the image. ``size`` is the height and
    width of the result. If the model received a scaled copy, ``size`` is that of the original image. ``None`` means
    ``seen``.
    """
    covered = (maps[0].shape[-2] * stride, maps[0].shape[-1] * stride)
    # Exported graphs use _resample, because _resample creates no interpolation nodes. OpenVINO runs such nodes in bf16
    # if possible, and then also rounds the softmax before the node.
    if torch.compiler.is_exporting() or (size is not None and covered != seen):
        probabilities, others = (_resample(m, stride, seen, size or seen) for m in maps)
    elif size is None:
        probabilities, others = (upsample_to(m, covered)[..., : seen[0], : seen[1]] for m in maps)
    else:
        probabilities, others = (upsample_to(m, size) for m in maps)
    return probabilities, others


def _resample(maps: Tensor, stride: int, seen: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Interpolates maps bilinearly from cells of an image of size ``seen`` to the pixels of an image of size ``size``.

    The last cells can extend beyond the image, so the scale factor is ``size`` · ``stride`` / ``seen``, not ``size``
    divided by the number of cells.
    """
    for axis, (extent, target) in enumerate(zip(seen, size, strict=True), start=2):
        centers = torch.arange(target, device=maps.device) + 0.5
        last = maps.shape[axis] - 1
        places = (centers * (extent / (target * stride)) - 0.5).clamp(0, last)
        before = places.floor()
        shape = [-1 if index == axis else 1 for index in range(4)]
        share = (places - before).view(shape).to(maps.dtype)
        low = before.long()
        high = (low + 1).clamp(max=last)
        maps = maps.index_select(axis, low).lerp(maps.index_select(axis, high), share)
    return maps
