"""Endless, stateless streams of training samples. The seed and the number of a sample determine the sample."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch

from iccld.data.datasets import SegmentationDataset
from iccld.data.sampling import Sampler
from iccld.data.transforms import TrainTransform
from iccld.data.workers import WorkerDiedError, ordered_map
from iccld.errors import RunFailedError

Sample = dict[str, Any]


@dataclass(eq=False)
class SampleStream:
    """The training samples of a data set, indexed by the global sample number, from 0 without end.

    ``stream[n]`` depends only on the data, ``seed``, ``stream_id`` and ``n``. A resumed run therefore continues with
    the same samples, for any number of processes and workers. A sample is a dict of ``image``, uint8 tensor (c, h, w);
    ``valid``, bool tensor (h, w), ``False`` for pixels that are excluded from losses; ``name``, the file's name; and,
    if ``labeled``, ``label``, int64 tensor (h, w), with 255 for ignored pixels.

    Attributes:
        transform: Random scale, crop and flip.
        sampler: Sampler that draws the index of the image (``iccld.data.sampling``).
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
        rank: Rank of the training process.
        world_size: Number of training processes.
        num_workers: Number of worker processes. With 0, samples are loaded in the training process.
        pin_memory: Whether batches are copied to pinned memory for the transfer to a GPU.
    """

    stream: SampleStream
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
        """Yields the batches.

        Raises:
            InputError: A file cannot be read, or an image and its label map differ in size.
            RunFailedError: A worker process was killed or could not be started.
        """
        for batch in self._batches():
            tensors = _as_tensors(batch)
            if self.pin_memory:
                tensors = {k: v.pin_memory() if torch.is_tensor(v) else v for k, v in tensors.items()}
            yield tensors

    def _batches(self) -> Iterator[Sample]:
        steps = range(self.start_step, self.end_step)
        firsts = [(step * self.world_size + self.rank) * self.batch_size for step in steps]
        load = partial(_load, self.stream, self.batch_size)
        if not self.num_workers:
            yield from map(load, firsts)
            return
        try:
            yield from ordered_map(load, firsts, self.num_workers)
        except WorkerDiedError as error:
            raise RunFailedError(
                f"a process that loads images {error}; the same command goes on from the last checkpoint, with "
                "less memory if --data.num-workers is lower (0: no such processes)"
            ) from error


def _load(stream: SampleStream, batch_size: int, first: int) -> Sample:
    samples = [stream.arrays(number) for number in range(first, first + batch_size)]
    return {
        key: [s[key] for s in samples] if key == "name" else np.stack([s[key] for s in samples])
        for key in samples[0]
    }
