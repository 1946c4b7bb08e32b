"""Random scale, crop and flip of training samples. Image, label map and validity mask are transformed equally."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from iccld.data.photometric import change_appearance
from iccld.labels import IGNORE
from iccld.resizing import base_size, resize_image, resize_label

PADDING_COLOR = (124, 116, 104)
"""RGB color of pixels outside the image: the ImageNet mean, which is about zero after normalization."""

_MOST_TRIES = 10
_CLASS_SHARE = 0.0057
"""Minimum fraction of a crop's pixels with the wanted class, as in DAFormer (1500 pixels in a crop of 512×512)."""


@dataclass(frozen=True)
class Geometry:
    """A random crop: (height, width) of the scaled image, top left corner, and whether the crop is mirrored."""

    size: tuple[int, int]
    top: int
    left: int
    flip: bool


@dataclass(frozen=True)
class TrainTransform:
    """Transform of training samples: resize to a base size, random scale, random crop and random left-right flip.

    Args:
        crop: Height and width of the result in pixels.
        scale: Range of the random scale factor, relative to the base size. (1, 1) disables random scaling.
        flip: Whether samples are mirrored with probability 0.5.
        resize: Base (height, width) in pixels. With ``None``, images keep their size.
        stretch: Whether images are resized to exactly the base size. If false, images are resized to the base height
            and keep their aspect ratio (``iccld.resizing.base_size``).
        ignore_top: Fraction of the image height. Rows in this upper part of the image are marked as not valid. DAFormer
            ignores 0.03 of the height in pseudo-labels (15 of 512 rows).
        ignore_bottom: Fraction of the image height. Rows in this lower part, in which the hood of the ego vehicle is
            visible, are marked as not valid. DAFormer ignores 0.23 of the height in pseudo-labels (120 of 512 rows).
        most_of_one_class: Upper limit for the fraction of one class in a crop's labeled pixels. 1 accepts all crops.
            With a lower limit, a crop in which a class reaches the limit, or which shows fewer than two classes, is
            drawn again, up to ten times. MMSegmentation calls this limit ``cat_max_ratio``.
        photometric: Strength of the random changes of appearance in ``iccld.data.photometric``. 0 disables them.
    """

    crop: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)
    flip: bool = True
    resize: tuple[int, int] | None = None
    stretch: bool = False
    ignore_top: float = 0.0
    ignore_bottom: float = 0.0
    most_of_one_class: float = 1.0
    photometric: float = 0.0

    def __post_init__(self) -> None:
        assert min(self.crop) > 0, self.crop
        assert 0 < self.scale[0] <= self.scale[1], self.scale
        assert min(self.ignore_top, self.ignore_bottom) >= 0, (self.ignore_top, self.ignore_bottom)
        assert self.ignore_top + self.ignore_bottom < 1, (self.ignore_top, self.ignore_bottom)
        assert 0 < self.most_of_one_class <= 1, self.most_of_one_class

    def __call__(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        label: UInt8[np.ndarray, "h w"] | None,
        rng: np.random.Generator,
        want: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Draws a training sample. If a class ``want`` is given, the crop shows this class if possible.

        ``want`` must be ``None`` if ``label`` is ``None``.

        Returns:
            A dict of arrays. ``image`` is uint8 (h, w, 3). ``valid`` is bool (h, w) and is ``False`` outside the image
            and in ignored rows. If a label map is given, the dict also has ``label``, uint8 (h, w), which is 255 where
            ``valid`` is ``False``.
        """
        height, width = image.shape[:2]
        assert label is None or label.shape == (height, width), (label.shape, image.shape)
        geometry = self.draw((height, width), rng) if label is None else self._draw_varied(label, rng)
        if want is not None:
            assert label is not None, "a wanted class needs a label map"
            geometry = self._search(label, geometry, rng, want)
        valid = self.valid(geometry)
        cut = self._cut(resize_image(image, geometry.size), geometry, PADDING_COLOR)
        if self.photometric:
            inside = self._inside(geometry)
            cut[inside] = change_appearance(cut[inside], rng, self.photometric)
        sample = {"image": cut, "valid": valid}
        if label is not None:
            cut = self._cut(resize_label(label, geometry.size), geometry, IGNORE)
            cut[~valid] = IGNORE
            sample["label"] = cut
        return sample

    def draw(self, size: tuple[int, int], rng: np.random.Generator) -> Geometry:
        """Draws the geometry for an image of the given (height, width) in pixels."""
        base_height, base_width = base_size(size, self.resize, stretch=self.stretch)
        factor = rng.uniform(*self.scale)
        height, width = max(1, round(base_height * factor)), max(1, round(base_width * factor))
        top = int(rng.integers(max(0, height - self.crop[0]) + 1))
        left = int(rng.integers(max(0, width - self.crop[1]) + 1))
        mirrored = bool(rng.random() < 0.5)
        return Geometry((height, width), top, left, self.flip and mirrored)

    def valid(self, geometry: Geometry) -> Bool[np.ndarray, "h w"]:
        """Returns the validity mask of a crop: ``True`` inside the image and outside the ignored rows."""
        height = geometry.size[0]
        first = round(self.ignore_top * height) - geometry.top
        last = height - round(self.ignore_bottom * height) - geometry.top
        valid = np.zeros(self.crop, dtype=bool)
        valid[max(0, first) : max(0, last), self._inside(geometry)[1]] = True
        return valid

    def _inside(self, geometry: Geometry) -> tuple[slice, slice]:
        """Returns the rows and columns of a crop that are inside the image."""
        height, width = geometry.size[0] - geometry.top, geometry.size[1] - geometry.left
        return slice(height), slice(max(0, self.crop[1] - width), None) if geometry.flip else slice(width)

    def _search(
        self, label: UInt8[np.ndarray, "h w"], first: Geometry, rng: np.random.Generator, want: int
    ) -> Geometry:
        """Tries ``first`` and up to nine new crops until a crop has enough pixels of class ``want``.

        Returns the crop with the most pixels of this class.
        """
        enough = _CLASS_SHARE * self.crop[0] * self.crop[1]
        resized = cache(partial(resize_label, label))
        geometry = best = first
        most = -1
        for _ in range(_MOST_TRIES):
            cut = self._cut(resized(geometry.size), geometry, IGNORE)
            pixels = int(np.count_nonzero((cut == want) & self.valid(geometry)))
            if pixels > most:
                best, most = geometry, pixels
            if pixels >= enough:
                break
            geometry = self._draw_varied(label, rng)
        return best

    def _draw_varied(self, label: UInt8[np.ndarray, "h w"], rng: np.random.Generator) -> Geometry:
        """Draws a crop. If one class covers too much of the crop, draws again, up to ten times.

        ``most_of_one_class`` is the limit for one class.
        """
        size = (label.shape[0], label.shape[1])
        geometry = self.draw(size, rng)
        for _ in range(_MOST_TRIES if self.most_of_one_class < 1 else 0):
            cut = self._cut(resize_label(label, geometry.size), geometry, IGNORE)
            counts = np.bincount(cut[cut != IGNORE], minlength=1)
            if np.count_nonzero(counts) > 1 and counts.max() < self.most_of_one_class * counts.sum():
                break
            geometry = self.draw(size, rng)
        return geometry

    def _cut(
        self, scaled: UInt8[np.ndarray, "h w ..."], geometry: Geometry, fill: int | tuple[int, int, int]
    ) -> UInt8[np.ndarray, "h2 w2 ..."]:
        """Cuts a crop out of a scaled image or label map. Mirrors the crop if ``geometry.flip`` is true.

        A crop that is larger than the image is padded with ``fill`` at the bottom and right before it is mirrored.
        """
        height, width = self.crop
        inside = scaled[geometry.top : geometry.top + height, geometry.left : geometry.left + width]
        below, right = height - inside.shape[0], width - inside.shape[1]
        cut = cv2.copyMakeBorder(inside, 0, below, 0, right, cv2.BORDER_CONSTANT, value=fill)
        # cv2.flip is thirty times as fast as NumPy's contiguous copy of the mirrored view.
        return np.asarray(cv2.flip(cut, 1) if geometry.flip else cut, dtype=np.uint8)
