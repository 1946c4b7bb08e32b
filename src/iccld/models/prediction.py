"""Prediction: whole images or sliding windows, several noise draws, and the uncertainty they give."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from iccld.compute import autocast
from iccld.errors import InputError
from iccld.models.layers import upsample_to
from iccld.resizing import base_size, resize_images

if TYPE_CHECKING:
    from iccld.models.iccld import ICCLD, ImageState

Maps = tuple[Float[Tensor, "b k _ _"], Float[Tensor, "b m _ _"]]
"""Class probabilities, and maps of the same size that go with them: the draws' disagreement, or what else says how
sure they are."""

_MAX_SCALED_PIXELS = 64_000_000
"""Of an image that was made larger for the model; one that has more by itself is taken."""

Images = UInt8[np.ndarray, "*b h w 3"] | Float[np.ndarray, "*b h w 3"]


@dataclass(frozen=True)
class Prediction:
    """A segmentation; arrays have a leading batch axis if the images had one.

    Attributes:
        labels: most probable class, an index into the model's label space.
        probabilities: of every class, averaged over the draws; they add up to 1.
        uncertainty: entropy of the probabilities divided by its maximum, log k: 0 sure, 1 clueless.
        mutual_information: the part of that entropy which comes from disagreement between draws (0 with one
            draw), on the same scale.
    """

    labels: UInt8[np.ndarray, "*b h w"]
    probabilities: Float32[np.ndarray, "*b k h w"]
    uncertainty: Float32[np.ndarray, "*b h w"]
    mutual_information: Float32[np.ndarray, "*b h w"]


def to_batch(images: Any) -> tuple[Float[Tensor, "b 3 h w"], bool]:
    """Turns what users hand over into a float batch in [0, 1]; tells whether a batch axis was added.

    Raises:
        InputError: wrong shape, type or range.
    """
    array = np.asarray(images)
    if array.ndim not in (3, 4) or array.shape[-1] != 3 or array.size == 0:
        raise InputError(
            f"images have shape {array.shape}; give RGB arrays of shape (h, w, 3) or (b, h, w, 3)"
        )
    single = array.ndim == 3
    if single:
        array = array[None]
    if not array.flags.writeable:  # as those of Pillow are; torch shares memory and warns of it
        array = array.copy()
    if array.dtype == np.uint8:
        batch = torch.from_numpy(np.ascontiguousarray(array)).permute(0, 3, 1, 2).float() / 255
    elif np.issubdtype(array.dtype, np.floating):
        batch = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).permute(0, 3, 1, 2)
        if not bool(torch.isfinite(batch).all()) or float(batch.min()) < 0 or float(batch.max()) > 1:
            low, high = float(batch.min()), float(batch.max())
            raise InputError(
                f"float images range from {low:g} to {high:g}; scale them to [0, 1] or give uint8"
            )
    else:
        raise InputError(f"images are of type {array.dtype}; give uint8, or floats in [0, 1]")
    return batch, single


def predict_images(
    model: ICCLD,
    images: Any,
    *,
    steps: int,
    draws: int,
    seed: int,
    window: tuple[int, int] | None,
    overlap: float,
    precision: str = "auto",
    input_height: int | None = None,
) -> Prediction:
    """See ``iccld.models.iccld.ICCLD.predict``."""
    if steps < 1 or draws < 1:
        raise InputError(f"steps is {steps} and draws is {draws}; both must be at least 1")
    if not 0 <= overlap < 1:
        raise InputError(f"overlap is {overlap}; give a share of the window in [0, 1)")
    if window is not None and min(window) < 32:
        raise InputError(f"window is {window[0]}×{window[1]}; give at least 32×32 pixels")
    batch, single = to_batch(images)
    device = next(model.parameters()).device
    size = (batch.shape[-2], batch.shape[-1])
    batch = _to_input_height(
        batch.to(device), model.spec.input_height if input_height is None else input_height
    )
    was_training = model.training
    model.eval()
    try:
        with (
            torch.inference_mode(),
            torch.random.fork_rng(devices=[]),
            autocast(device.type, precision),
        ):
            torch.default_generator.manual_seed(seed)  # the CPU's alone: fork_rng restores no other

            def whole(images: Tensor) -> Maps:
                return _predict_whole(
                    model, images.contiguous(memory_format=torch.channels_last), steps, draws
                )

            stride = model.label_decoder.out_stride
            if window is None:
                maps = whole(batch)
            else:
                maps = predict_windows(
                    lambda tile: to_pixels(whole(tile), stride, (tile.shape[-2], tile.shape[-1])),
                    batch,
                    window,
                    overlap,
                )
                stride = 1
            prediction = _summarize(maps, stride, (batch.shape[-2], batch.shape[-1]), size)
    finally:
        model.train(was_training)
    if single:
        fields = ("labels", "probabilities", "uncertainty", "mutual_information")
        prediction = Prediction(*(getattr(prediction, name)[0] for name in fields))
    return prediction


def _predict_whole(model: ICCLD, images: Float[Tensor, "b 3 h w"], steps: int, draws: int) -> Maps:
    """Class probabilities of images that the model sees at once."""
    # CPUs take image by image, for what they take draw by draw for.
    parts = images.split(1 if images.device.type == "cpu" else len(images))
    noise: Tensor | None = None
    maps: list[Maps] = []
    for part in parts:
        state = model.encode_images(part)
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
    """Refuses a thin image that would become huge at the height that the model was trained at.

    Args:
        size: height and width of the image.
        scaled: height and width that the model would see.

    Raises:
        InputError: the second has far too many pixels, and more than the first.
    """
    if scaled[0] * scaled[1] > max(_MAX_SCALED_PIXELS, size[0] * size[1]):
        raise InputError(
            f"an image of {size[1]}×{size[0]} pixels would be scaled to {scaled[1]}×{scaled[0]}, too many; "
            "give the size that the model is to see with --resize H W"
        )


def entropy(probabilities: Float[Tensor, "b k h w"]) -> Float[Tensor, "b h w"]:
    """Entropy divided by log k, in [0, 1]."""
    num_classes = probabilities.shape[1]
    raw = torch.special.entr(probabilities).sum(dim=1)
    return (raw / math.log(max(2, num_classes))).clamp(0, 1)


def average_draws(
    model: ICCLD, state: ImageState, noise: Float[Tensor, "n d h2 w2"], steps: int, draws: int
) -> Maps:
    """Class probabilities of encoded images, averaged over noise draws; the image coder has run once for all.

    Args:
        model: the model.
        state: of b images.
        noise: draws × b noises, those of an image side by side.
        steps: K.
        draws: N.
    """
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
    """Averages overlapping windows at full resolution.

    Args:
        predict: gives the maps of a window, at the size of its pixels.
        batch: images.
        window: height and width.
        overlap: share of a window that the next one covers again.
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
    """Top-left corners of windows that cover an image, neighbours sharing at least ``overlap`` of a window.

    Args:
        size: height and width of the image.
        window: height and width of the window; one larger than the image covers it whole.
        overlap: in [0, 1).
    """
    axes = []
    for side, extent in zip(size, window, strict=True):
        stride = max(1, int(extent * (1 - overlap)))
        last = max(0, side - extent)
        count = -(-last // stride) + 1
        # Even spacing, the last window flush with the border: no slivers, no padding.
        axes.append([round(i * last / (count - 1)) if count > 1 else 0 for i in range(count)])
    return [(top, left) for top in axes[0] for left in axes[1]]


def to_pixels(maps: Maps, stride: int, seen: tuple[int, int], size: tuple[int, int] | None = None) -> Maps:
    """Interpolates from a stride to pixels; cells at the right and bottom border may reach beyond the image.

    Args:
        maps: at that stride of the image that the model saw.
        stride: in pixels.
        seen: height and width of that image.
        size: height and width of the answer, of which that image is a scaled copy; those of that image if None.
    """
    covered = (maps[0].shape[-2] * stride, maps[0].shape[-1] * stride)
    if size is None:
        probabilities, others = (upsample_to(m, covered)[..., : seen[0], : seen[1]] for m in maps)
    elif not torch.compiler.is_exporting() and covered == seen:
        probabilities, others = (upsample_to(m, size) for m in maps)
    else:
        probabilities, others = (_resample(m, stride, seen, size) for m in maps)
    return probabilities, others


def _resample(maps: Tensor, stride: int, seen: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation as torch's, where the last cells reach beyond the image.

    The scale is no quotient of the maps' sizes then.
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


def _summarize(maps: Maps, stride: int, seen: tuple[int, int], size: tuple[int, int]) -> Prediction:
    """Interpolates probabilities (not logits: they are fewer numbers to exponentiate) and finds the labels.

    Args:
        maps: at a stride of the image that the model saw.
        stride: that stride.
        seen: height and width of the image that the model saw.
        size: height and width of the answer.
    """
    maps = (maps[0], torch.cat([entropy(maps[0])[:, None], maps[1]], dim=1))
    full, doubts = to_pixels(maps, stride, seen, None if size == seen else size)
    labels = full.max(dim=1).indices.to(torch.uint8)  # argmax takes four times as long on CPUs
    return Prediction(
        cast(Any, labels.cpu().numpy()),
        cast(Any, full.float().cpu().numpy()),
        cast(Any, doubts[:, 0].float().cpu().numpy()),
        cast(Any, doubts[:, 1].float().cpu().numpy()),
    )
