"""Endless, stateless streams of training samples. The seed and the number of a sample determine the sample.

The images are drawn by one of two samplers. ``UniformSampler`` draws each image once per epoch. ``RareClassSampler``
draws images with rare classes more often.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float64, Int64

from iccld.data.cache import map_array, write_array
from iccld.data.datasets import FileDataset
from iccld.data.interface import SegmentationDataset
from iccld.data.transforms import TrainTransform
from iccld.data.workers import WorkerDiedError, ordered_map, threaded_map
from iccld.errors import InputError, RunFailedError
from iccld.files import AnyPath, as_file_name
from iccld.progress import track

Sample = dict[str, Any]

# DAFormer draws a GTA5 image (1914×1052) for a class only if the image has at least 3000 pixels of this class.
_MIN_SHARE = 3000 / (1914 * 1052)
_GOLDEN_RATIO = (5**0.5 - 1) / 2


class UniformSampler:
    """Sampler that draws each of ``n`` images once per epoch, in a new random order in each epoch."""

    def __init__(self, n: int, seed: int) -> None:
        if n < 1:
            raise InputError("a data set without images cannot be trained on; add images")
        self.n, self.seed = n, seed
        self._order: tuple[int, Int64[np.ndarray, " n"]] | None = None

    def draw(self, rng: np.random.Generator, number: int = 0) -> tuple[int, None]:
        """Returns (image index, ``None``) for sample ``number``. The epoch is ``number // n``. ``rng`` is not used."""
        epoch, place = divmod(number, self.n)
        if self._order is None or self._order[0] != epoch:
            source = np.random.SeedSequence(self.seed, spawn_key=(epoch,))
            self._order = (epoch, np.random.default_rng(source).permutation(self.n))
        return int(self._order[1][place]), None


def class_counts(dataset: SegmentationDataset, cache_dir: AnyPath | None = None) -> Int64[np.ndarray, "n k"]:
    """Counts the pixels of each class k in each label map n, with a progress bar. Ignored pixels are not counted.

    If the data set consists of files, the counts are stored in the folder ``cache_dir``. Pixels are counted again if
    the list of files, the size or modification time of a file, the classes or the id table have changed.
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
        counts: Number of pixels of class k in image n. If all counts are 0, ``InputError`` is raised.
        temperature: Temperature T. The smaller T, the more often the rarest classes are drawn.
        min_pixels: Minimum number of pixels of a class in the images that are drawn for this class. If no image has
            so many pixels of a class, all images with this class can be drawn. ``None`` means 0.15 % of the mean number
            of labeled pixels per image. In DAFormer, the minimum is 3000 pixels of a GTA5 image, which is also 0.15 %.

    Attributes:
        probabilities: Probability P of each class.
        images: For each class, the indices of the images that can be drawn for this class.
    """

    def __init__(
        self, counts: Int64[np.ndarray, "n k"], temperature: float = 0.01, min_pixels: int | None = None
    ) -> None:
        assert temperature > 0, temperature
        total = counts.sum(axis=0)
        if not total.any():
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
        # Images with fewer than ``min_pixels`` of a class are drawn only if no image has ``min_pixels``.
        enough = np.where((counts >= min_pixels).any(axis=0), min_pixels, 1)
        self.images = [np.flatnonzero(column) for column in (counts >= enough).T]

    def draw(self, rng: np.random.Generator, number: int = 0) -> tuple[int, int]:
        """Draws a class and then an image, and returns (image index, class). ``number`` is not used."""
        label = int(rng.choice(len(self.probabilities), p=self.probabilities))
        return int(rng.choice(self.images[label])), label


Sampler = UniformSampler | RareClassSampler
"""Either sampler. ``draw`` returns (image index, class that the crop should show). The class may be ``None``."""


@dataclass(eq=False)
class SampleStream:
    """The endless stream of training samples of a data set, indexed by the global sample number (0, 1, …).

    ``stream[n]`` depends only on the data, the settings of the stream and ``n``. A resumed run therefore continues with
    the same samples, for any number of processes and workers.

    A sample is a dict. ``image`` is a uint8 tensor (c, h, w). ``valid`` is a bool tensor (h, w), which is ``False`` for
    pixels that are excluded from losses. ``name`` is the name of the file. Only samples with label maps have the key
    ``label``, an int64 tensor (h, w) with 255 for ignored pixels.

    Attributes:
        transform: Random scale, crop and flip.
        sampler: Sampler that draws the index of the image.
        labeled: Whether samples contain label maps.
        stream_id: Number of the stream within the run, for example 0 for source and 1 for target.
    """

    dataset: SegmentationDataset
    transform: TrainTransform
    sampler: Sampler
    seed: int
    labeled: bool
    stream_id: int

    def __post_init__(self) -> None:
        assert self.dataset.has_labels or not self.labeled, f"{self.dataset.name} was opened without labels"

    def __getitem__(self, number: int) -> Sample:
        """Returns sample ``number`` as tensors."""
        return _as_tensors(self.arrays(number))

    def arrays(self, number: int) -> Sample:
        """Returns sample ``number`` as NumPy arrays, with uint8 labels, for the transfer between processes."""
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(self.stream_id, number)))
        index, want = self.sampler.draw(rng, number)
        image = self.dataset.image(index)
        label = self.dataset.label(index) if self.labeled else None
        sample: Sample = self.transform(image, label, rng, want if self.labeled else None)
        channels = np.empty((3, *self.transform.crop), dtype=np.uint8)
        # cv2.split is seven times as fast as NumPy's copy of the transposed view.
        cv2.split(sample["image"], list(channels))
        return sample | {"image": channels, "name": self.dataset.file_name(index)}


@dataclass(frozen=True)
class WeightedStreams:
    """Stream that draws its samples from several streams, in proportion to ``weights``.

    Sample n comes from a fixed stream and has the number n there. The golden-ratio sequence (n·φ mod 1) decides which
    stream, so the proportions also hold approximately in short intervals.
    """

    streams: tuple[SampleStream, ...]
    weights: tuple[float, ...]

    def arrays(self, number: int) -> Sample:
        """Returns sample ``number`` as NumPy arrays, as ``SampleStream.arrays`` does."""
        limits = np.cumsum(self.weights) / sum(self.weights)
        place = (number * _GOLDEN_RATIO) % 1.0
        return self.streams[int(np.searchsorted(limits[:-1], place, side="right"))].arrays(number)


@dataclass(frozen=True)
class JoinedStream:
    """Stream of source images and labeled target images, each with its own transform.

    Of ``batch_size`` consecutive samples, the last half (rounded down) are target images. With a batch size of 1, every
    other sample is a target image. Samples have the additional key ``is_target``, a bool.
    """

    source: SampleStream | WeightedStreams
    target: SampleStream
    batch_size: int

    def arrays(self, number: int) -> Sample:
        """Returns sample ``number`` as NumPy arrays, as ``SampleStream.arrays`` does."""
        period = max(2, self.batch_size)
        num_target = period // 2
        batch, place = divmod(number, period)
        in_target = place - (period - num_target)
        if in_target >= 0:
            sample, is_target = self.target.arrays(batch * num_target + in_target), True
        else:
            sample, is_target = self.source.arrays(batch * (period - num_target) + place), False
        return sample | {"is_target": np.array(is_target)}


Stream = SampleStream | WeightedStreams | JoinedStream


def _as_tensors(arrays: Sample) -> Sample:
    sample = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in arrays.items()}
    if "label" in sample:
        sample["label"] = sample["label"].long()
    return sample


@dataclass(frozen=True)
class StepLoader:
    """The batches of one training process, one batch per step. Worker processes end when the iteration ends.

    Item s of the batch of rank r in step t is the sample with number (t · world_size + r) · batch_size + s.

    Attributes:
        batch_size: Number of samples per step and process.
        start_step: First step: 0, or the step at which a resumed run continues.
        end_step: Step before which the iteration stops.
        rank: Rank of the training process, from 0 to ``world_size`` − 1.
        num_workers: Number of worker processes. With 0, samples are loaded in the training process.
        pin_memory: Whether batches are copied to pinned memory for the transfer to a GPU.
    """

    stream: Stream
    batch_size: int
    start_step: int
    end_step: int
    rank: int = 0
    world_size: int = 1
    num_workers: int = 0
    pin_memory: bool = False

    def __post_init__(self) -> None:
        assert 0 <= self.start_step <= self.end_step, (self.start_step, self.end_step)
        assert 0 <= self.rank < self.world_size, (self.rank, self.world_size)
        assert self.batch_size > 0, self.batch_size

    def __iter__(self) -> Iterator[Sample]:
        """Yields the batches. Raises ``RunFailedError`` if a worker process was killed or could not be started."""
        steps = range(self.start_step, self.end_step)
        firsts = [(step * self.world_size + self.rank) * self.batch_size for step in steps]
        workers = self.num_workers
        batches = ordered_map(self._load, firsts, workers) if workers else map(self._load, firsts)
        try:
            for batch in batches:
                tensors = _as_tensors(batch)
                if self.pin_memory:
                    tensors = {k: v.pin_memory() if torch.is_tensor(v) else v for k, v in tensors.items()}
                yield tensors
        except WorkerDiedError as error:
            raise RunFailedError(
                f"a process that loads images {error}; the same command goes on from the last checkpoint, with "
                "less memory if --data.num-workers is lower (0: no such processes)"
            ) from error

    def _load(self, first: int) -> Sample:
        samples = [self.stream.arrays(number) for number in range(first, first + self.batch_size)]
        columns = {key: [sample[key] for sample in samples] for key in samples[0]}
        return {key: values if key == "name" else np.stack(values) for key, values in columns.items()}
