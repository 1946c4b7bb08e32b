"""Samplers for training images: one draws each image once per epoch, the other favors images with rare classes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from iccld.data.cache import map_array, write_array
from iccld.data.datasets import FileDataset, SegmentationDataset
from iccld.data.workers import threaded_map
from iccld.errors import InputError
from iccld.files import as_file_name
from iccld.progress import track

# DAFormer draws a GTA5 image (1914×1052) for a class only if the image has at least 3000 pixels of this class.
_MIN_SHARE = 3000 / (1914 * 1052)


class UniformSampler:
    """Sampler that draws each of ``n`` images once per epoch, in a new random order in each epoch."""

    def __init__(self, n: int, seed: int) -> None:
        if n < 1:
            raise InputError("a data set without images cannot be trained on; add images")
        self.n = n
        self.seed = seed
        self._order: tuple[int, Int64[np.ndarray, " n"]] | None = None

    def draw(self, rng: np.random.Generator, number: int = 0) -> tuple[int, None]:
        """Returns (image index, ``None``) for sample ``number``, in epoch ``number // n``. ``rng`` is not used."""
        epoch, place = divmod(number, self.n)
        if self._order is None or self._order[0] != epoch:
            source = np.random.SeedSequence(self.seed, spawn_key=(epoch,))
            self._order = (epoch, np.random.default_rng(source).permutation(self.n))
        return int(self._order[1][place]), None


def class_counts(
    dataset: SegmentationDataset, cache_dir: str | os.PathLike[str] | None = None
) -> Int64[np.ndarray, "n k"]:
    """Counts the pixels of each class in each label map, with a progress bar.

    Args:
        dataset: Data set with labels.
        cache_dir: Folder in which counts are stored, if the data set consists of files. Pixels are counted again if
            the list of files, a file's size or modification time, the classes or the id table have changed.

    Returns:
        Number of pixels of class k in image n, without ignored pixels.
    """
    assert dataset.has_labels, f"{dataset.name} was opened without labels"
    num_classes = len(dataset.label_space)
    cache: Path | None = None
    if cache_dir is not None and isinstance(dataset, FileDataset):
        cache = Path(cache_dir, f"class_counts_{as_file_name(dataset.name)}_{dataset.fingerprint()[:16]}.npy")
        kept = map_array(cache)
        if kept is not None and kept.shape == (len(dataset), num_classes) and kept.dtype == np.int64:
            return np.array(kept)

    def count(index: int) -> Int64[np.ndarray, " k"]:
        return np.bincount(dataset.label(index).ravel(), minlength=256)[:num_classes].astype(np.int64)

    rows = threaded_map(count, range(len(dataset)), num_threads=4)
    counts = np.stack([*track(rows, len(dataset), f"counting classes of {dataset.name}")])
    if cache is not None:
        write_array(cache, counts)
    return counts


class RareClassSampler:
    """Sampler that draws a class and then an image with this class. The rarer a class, the more often it is drawn.

    The probability of class c is P(c) = exp((1 − f_c)/T) / Σ_c' exp((1 − f_c')/T), where f_c is the fraction of class
    c among all counted pixels (Hoyer et al., DAFormer, CVPR 2022, eq. 10). Classes without pixels are never drawn.

    Args:
        counts: Number of pixels of class k in image n.
        temperature: Temperature T. The smaller T, the more often the rarest classes are drawn.
        min_pixels: Minimum number of pixels of a class in the images that are drawn for this class. If no image has
            so many pixels of a class, all images with this class can be drawn. ``None`` means
            0.15 % of an average image's labeled pixels (as DAFormer's 3000 pixels in a GTA5 image).

    Attributes:
        probabilities: Probability P of each class.
        images: For each class, the indices of the images that can be drawn for this class.

    Raises:
        InputError: No image has a labeled pixel.
    """

    def __init__(
        self, counts: Int64[np.ndarray, "n k"], temperature: float = 0.01, min_pixels: int | None = None
    ) -> None:
        assert temperature > 0, temperature
        total = counts.sum(axis=0)
        if total.sum() == 0:
            raise InputError(
                "no image has a labeled pixel (all are 255), so there are no rare classes; check them"
            )
        if min_pixels is None:
            min_pixels = max(1, round(_MIN_SHARE * float(counts.sum()) / len(counts)))
        classes = np.flatnonzero(total)
        logits = (1.0 - total[classes] / total.sum()) / temperature
        weights = np.exp(logits - logits.max())
        self.probabilities: Float64[np.ndarray, " k"] = np.zeros(counts.shape[1])
        self.probabilities[classes] = weights / weights.sum()
        shown = [np.flatnonzero(column >= min_pixels) for column in counts.T]
        self.images = [
            s if len(s) else np.flatnonzero(column) for s, column in zip(shown, counts.T, strict=True)
        ]

    def draw(self, rng: np.random.Generator, number: int = 0) -> tuple[int, int]:
        """Draws a class and then an image, and returns (image index, class). ``number`` is not used."""
        label = int(rng.choice(len(self.probabilities), p=self.probabilities))
        return int(rng.choice(self.images[label])), label


Sampler = UniformSampler | RareClassSampler
"""Either sampler. ``draw`` returns (image index, class that the crop should show). The class may be ``None``."""
