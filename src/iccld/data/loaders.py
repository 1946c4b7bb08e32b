"""Endless streams of training samples that need no state: the sample's number decides all its randomness."""

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
    """The training samples of a data set by global sample number, from 0 on without end.

    ``stream[n]`` depends on the data, ``seed``, ``stream_id`` and ``n`` alone, so a run resumes exactly by
    going on with a later n, whatever the number of processes and workers. It is a dict of ``image``, uint8
    tensor (c, h, w); ``valid``, bool tensor (h, w), False for pixels that no loss may count; ``name``, the
    file's name; and, if ``labeled``, ``label``, int64 tensor (h, w), 255 = ignore.

    Attributes:
        dataset: the images.
        transform: the random geometry.
        sampler: chooses the image, see ``iccld.data.sampling``.
        seed: the run's seed.
        labeled: whether samples have labels.
        stream_id: tells apart the streams of a run, for example 0 for source and 1 for target.
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
        """Makes sample ``number``."""
        return _as_tensors(self.arrays(number))

    def arrays(self, number: int) -> Sample:
        """The same as numpy arrays, with labels of uint8: what is sent between processes."""
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(self.stream_id, number)))
        index, want = self.sampler.draw(rng, number)
        image = self.dataset.image(index)
        label = self.dataset.label(index) if self.labeled else None
        sample: Sample = self.transform(image, label, rng, want if self.labeled else None)
        channels = np.empty((3, *self.transform.crop), dtype=np.uint8)
        # NumPy's copy of the transposed view takes seven times as long.
        cv2.split(sample["image"], list(channels))
        return sample | {"image": channels, "name": self.dataset.file_name(index)}


def _as_tensors(arrays: Sample) -> Sample:
    sample = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in arrays.items()}
    if "label" in sample:
        sample["label"] = sample["label"].long()
    return sample


@dataclass(frozen=True)
class StepLoader:
    """One process's batches, a batch a step; iterating ends with its worker processes.

    Slot s of rank r in step t has the sample number (t · world_size + r) · batch_size + s.

    Attributes:
        stream: the samples.
        batch_size: samples a step of this process.
        start_step: the first step, 0 or where a resumed run goes on.
        end_step: the step to stop before.
        rank: this process's number.
        world_size: the number of processes.
        num_workers: worker processes; 0 loads in this one.
        pin_memory: whether batches are put into pinned memory for the copy to a GPU.
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
            InputError: a file cannot be read or does not fit its label.
            RunFailedError: a worker process was killed or could not be started.
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
