"""Prediction: whole images or sliding windows, several noise draws, and the uncertainty they give."""

from __future__ import annotations

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
from iccld.models.images import Images, to_batch
from iccld.models.layers import upsample_to
from iccld.models.settings import PredictSettings, check_memory
from iccld.resizing import base_size, resize_images

Maps = tuple[Float[Tensor, "b k _ _"], Float[Tensor, "b m _ _"]]
"""Class probabilities, and maps of the same size that go with them: the draws' disagreement, or what else says how
sure they are."""

_MAX_SCALED_PIXELS = 64_000_000
"""Of an image that was made larger for the model; one that has more by itself is taken."""


@dataclass(frozen=True)
class Prediction:
    """A segmentation; arrays have a leading batch axis if the images had one.

    Attributes:
        labels: most probable class, an index into the model's label space.
        probabilities: of every class, averaged over the draws; they add up to 1.
        mutual_information: in nats, the part of the uncertainty that comes from disagreement between draws (0 with
            one draw): the entropy of the draws' mean less the mean of their entropies, interpolated like the
            probabilities. It never exceeds the uncertainty.
    """

    labels: UInt8[np.ndarray, "*b h w"]
    probabilities: Float32[np.ndarray, "*b k h w"]
    mutual_information: Float32[np.ndarray, "*b h w"]

    @cached_property
    def uncertainty(self) -> Float32[np.ndarray, "*b h w"]:
        """Entropy of the probabilities in nats, from 0 (sure) to log k (clueless)."""
        probabilities = self.probabilities
        if not probabilities.flags.writeable:  # torch shares memory and warns of it
            probabilities = probabilities.copy()
        return cast(Any, entropy(torch.from_numpy(probabilities)).numpy())

    @property
    def relative_uncertainty(self) -> Float32[np.ndarray, "*b h w"]:
        """Uncertainty divided by its maximum, log k: 0 sure, 1 clueless, whatever the number of classes."""
        return self.uncertainty / np.float32(self._most)

    @property
    def relative_mutual_information(self) -> Float32[np.ndarray, "*b h w"]:
        """Mutual information divided by log k."""
        return self.mutual_information / np.float32(self._most)

    def of_image(self, index: int) -> Prediction:
        """What was predicted for one image of a batch."""
        return Prediction(self.labels[index], self.probabilities[index], self.mutual_information[index])

    @property
    def _most(self) -> float:
        return math.log(max(2, self.probabilities.shape[-3]))


class Predicting:
    """``predict`` with its settings as keyword arguments: the same for models and exported files."""

    def predict(
        self,
        images: Images,
        *,
        steps: int | None = None,
        draws: int | None = None,
        seed: int = PredictSettings.seed,
        window: tuple[int, int] | None = None,
        overlap: float = PredictSettings.overlap,
        precision: str = PredictSettings.precision,
        input_height: int | None = None,
    ) -> Prediction:
        """Segments images of any size.

        Args:
            images: RGB, uint8 or float in [0, 1], ``(h, w, 3)`` or ``(b, h, w, 3)``; or a Pillow image, which is
                turned upright, or several of one size.
            steps: K, sampling steps; 1 if None, of an exported file its own.
            draws: N, noise draws whose probabilities are averaged; 1 if None, of an exported file its own.
            seed: of the noise; the same seed gives the same answer.
            window: height and width of a sliding window in pixels of the scaled image; None takes it whole.
            overlap: share of the window that neighbors have in common, in [0, 0.99].
            precision: bf16, fp32, or auto: bf16 where the device is fast at it, of an exported file its own.
            input_height: height that images are scaled to before; None for the model's own, 0 for none.

        Returns:
            Labels, probabilities and uncertainty at the size of the images; with a batch axis if they had one.

        Raises:
            InputError: an array of another shape, type or range, a setting out of range, or one that an exported
                file does not have.
        """
        settings = PredictSettings(
            steps, draws, seed, window, overlap, None, input_height, cast(Any, precision)
        )
        batch, single = to_batch(images)
        prediction = self._predict(batch, settings)
        return prediction.of_image(0) if single else prediction

    def _predict(self, batch: Float[Tensor, "b 3 h w"], settings: PredictSettings) -> Prediction:
        raise NotImplementedError


class Predictor(Predicting, nn.Module):
    """``predict`` for a network that encodes images and segments them from noise."""

    def _predict(self, batch: Float[Tensor, "b 3 h w"], settings: PredictSettings) -> Prediction:
        model: Any = self  # what the network's own class adds
        size = (batch.shape[-2], batch.shape[-1])
        check_memory(len(batch), size, len(model.label_space))
        height = model.spec.input_height if settings.input_height is None else settings.input_height
        batch = _to_input_height(batch.to(next(self.parameters()).device), height)
        was_training = self.training
        self.eval()
        try:
            with torch.inference_mode(), torch.random.fork_rng(devices=[]):
                # The CPU's generator alone: fork_rng restores no other.
                torch.default_generator.manual_seed(settings.seed)
                seen = (batch.shape[-2], batch.shape[-1])
                return _summarize(*_predict_maps(model, batch, settings), seen, size)
        finally:
            self.train(was_training)


def _predict_maps(model: Any, batch: Float[Tensor, "b 3 h w"], settings: PredictSettings) -> tuple[Maps, int]:
    """Maps of a batch, and their stride: the decoder's, or 1 of windows, which are averaged at full resolution."""
    stride = model.label_decoder.out_stride

    def whole(images: Tensor) -> Maps:
        return _predict_whole(model, images.contiguous(memory_format=torch.channels_last), settings)

    if settings.window is None:
        return whole(batch), stride

    def in_pixels(tile: Tensor) -> Maps:
        return to_pixels(whole(tile), stride, (tile.shape[-2], tile.shape[-1]))

    return predict_windows(in_pixels, batch, settings.window, settings.overlap), 1


def _predict_whole(model: Any, images: Float[Tensor, "b 3 h w"], settings: PredictSettings) -> Maps:
    """Class probabilities of images that the model sees at once; all but the network computes in fp32."""
    steps, draws = settings.steps or 1, settings.draws or 1
    # CPUs take image by image, for what they take draw by draw for.
    parts = images.split(1 if images.device.type == "cpu" else len(images))
    noise: Tensor | None = None
    maps: list[Maps] = []
    for part in parts:
        with autocast(images.device.type, settings.precision):
            state = model.encode(part)
            if noise is None:  # of all images, so that it does not depend on the parts
                noise = model.draw_noise(state, draws * len(images))
            own, noise = noise.tensor_split([draws * len(part)])
            maps.append(average_draws(model, state, own, steps, draws))
    probabilities, others = zip(*maps, strict=True)
    return torch.cat(probabilities), torch.cat(others)


def _to_input_height(batch: Float[Tensor, "b 3 h w"], height: int) -> Float[Tensor, "b 3 h2 w2"]:
    """Scales images to the height that the model was trained at, so that things have the size it knows."""
    if height <= 0 or batch.shape[-2] == height:
        return batch
    size = (batch.shape[-2], batch.shape[-1])
    scaled = base_size(size, (height, 0))
    check_scaled(size, scaled)
    return resize_images(batch, scaled).clamp(0, 1)


def check_scaled(size: tuple[int, int], scaled: tuple[int, int]) -> None:
    """Refuses a thin image (height, width) that would become huge at the height that the model was trained at.

    Raises:
        InputError: the scaled image has far too many pixels, and more than the image.
    """
    if scaled[0] * scaled[1] > max(_MAX_SCALED_PIXELS, size[0] * size[1]):
        raise InputError(
            f"an image of {size[1]}×{size[0]} pixels would be scaled to {scaled[1]}×{scaled[0]}, too many; "
            "give the size that the model is to see with --resize H W"
        )


def entropy(probabilities: Float[Tensor, "*b k h w"]) -> Float[Tensor, "*b h w"]:
    """Entropy over the classes in nats, in [0, log k]."""
    raw = torch.special.entr(probabilities).sum(dim=-3)
    return raw.clamp(0.0, math.log(probabilities.shape[-3]))


def average_draws(model: Any, state: Any, noise: Float[Tensor, "n d h2 w2"], steps: int, draws: int) -> Maps:
    """Class probabilities of b encoded images, averaged over draws × b noises, those of an image side by side."""
    # CPUs take draw by draw: a draw's maps stay in the cache, which saves a quarter of the time, and all of them need
    # not be in memory. GPUs want large batches, and graphs no loop.
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


def predict_windows(
    predict: Callable[[Tensor], Maps],
    batch: Float[Tensor, "b 3 h w"],
    window: tuple[int, int],
    overlap: float,
) -> Maps:
    """Averages overlapping windows at full resolution; ``predict`` gives the maps of a window at its size."""
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
    """Top-left corners of windows (height, width) that cover an image, evenly spaced, flush with its borders.

    Neighbors share at least ``overlap`` of a window; a window larger than the image covers it whole.
    """
    axes = []
    for side, extent in zip(size, window, strict=True):
        last = max(0, side - extent)
        count = -(-last // max(1, int(extent * (1 - overlap)))) + 1
        axes.append([round(i * last / (count - 1)) if count > 1 else 0 for i in range(count)])
    return [(top, left) for top in axes[0] for left in axes[1]]


def to_pixels(maps: Maps, stride: int, seen: tuple[int, int], size: tuple[int, int] | None = None) -> Maps:
    """Interpolates maps at a stride of the image that the model saw, whose height and width are ``seen``, to pixels.

    Cells at the right and bottom border may reach beyond the image. ``size`` is the height and width of the answer, of
    which that image is a scaled copy; None where it is no copy.
    """
    covered = (maps[0].shape[-2] * stride, maps[0].shape[-1] * stride)
    if torch.compiler.is_exporting():
        # OpenVINO interpolates in bf16 where it can, and rounds the softmax before it too.
        probabilities, others = (_resample(m, stride, seen, size or seen) for m in maps)
    elif size is None:
        probabilities, others = (upsample_to(m, covered)[..., : seen[0], : seen[1]] for m in maps)
    elif covered == seen:
        probabilities, others = (upsample_to(m, size) for m in maps)
    else:
        probabilities, others = (_resample(m, stride, seen, size) for m in maps)
    return probabilities, others


def _resample(maps: Tensor, stride: int, seen: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation where the last cells reach beyond the image: the scale is no quotient of the sizes."""
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


def _summarize(maps: Maps, stride: int, seen: tuple[int, int], size: tuple[int, int]) -> Prediction:
    """Interpolates probabilities (not logits: they are fewer numbers to exponentiate) and finds the labels."""
    full, information = to_pixels(maps, stride, seen, None if size == seen else size)
    labels = full.max(dim=1).indices.to(torch.uint8)  # argmax takes four times as long on CPUs
    arrays = (labels, full, information[:, 0])
    return Prediction(*(cast(Any, array.cpu().numpy()) for array in arrays))
