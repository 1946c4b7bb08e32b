"""Endless streams of training samples that need no state: the sample's number decides all its randomness."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch.utils.data import DataLoader, Dataset, default_collate
from torch.utils.data import Sampler as TorchSampler

from iccld.data.datasets import SegmentationDataset
from iccld.data.sampling import Sampler
from iccld.data.transforms import TrainTransform
from iccld.errors import InputError

Sample = dict[str, Any]


class SampleStream(Dataset[Sample]):
    """The training samples of a data set by global sample number, from 0 on without end.

    ``stream[n]`` depends on the data, ``seed``, ``stream_id`` and ``n`` alone, so a run resumes exactly by
    going on with a later n, whatever the number of processes and workers. It is a dict of ``image``, uint8
    tensor (c, h, w); ``valid``, bool tensor (h, w), False for pixels that no loss may count; ``name``, the
    file's name; and, if ``labeled``, ``label``, int64 tensor (h, w), 255 = ignore.

    Args:
        dataset: the images.
        transform: the random geometry.
        sampler: chooses the image, see ``iccld.data.sampling``.
        seed: the run's seed.
        labeled: whether samples have labels.
        stream_id: tells apart the streams of a run, for example 0 for source and 1 for target.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        transform: TrainTransform,
        sampler: Sampler,
        seed: int,
        labeled: bool,
        stream_id: int,
    ) -> None:
        assert dataset.has_labels or not labeled, f"{dataset.name} was opened without labels"
        self.dataset = dataset
        self.transform = transform
        self.sampler = sampler
        self.seed = seed
        self.labeled = labeled
        self.stream_id = stream_id

    def __getitem__(self, number: int) -> Sample:
        """Makes sample ``number``.

        Raises:
            InputError: a file cannot be read or does not fit its label.
        """
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(self.stream_id, number)))
        index, want = self.sampler.draw(rng, number)
        image = self.dataset.image(index)
        label = self.dataset.label(index) if self.labeled else None
        arrays = self.transform(image, label, rng, want if self.labeled else None)
        sample: Sample = {
            "image": torch.from_numpy(_channels_first(arrays["image"])),
            "valid": torch.from_numpy(arrays["valid"]),
            "name": self.dataset.file_name(index),
        }
        if self.labeled:
            sample["label"] = torch.from_numpy(arrays["label"].astype(np.int64))
        return sample


def _channels_first(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "3 h w"]:
    """By OpenCV, as numpy's copy of the transposed view takes seven times as long."""
    channels = np.empty((3, *image.shape[:2]), dtype=np.uint8)
    cv2.split(image, list(channels))
    return channels


class StepBatches(TorchSampler[list[int]]):
    """The global sample numbers of one process, a batch a step.

    Slot s of rank r in step t has number (t · world_size + r) · batch_size + s.
    """

    def __init__(self, batch_size: int, start_step: int, end_step: int, rank: int, world_size: int) -> None:
        assert 0 <= start_step <= end_step, (start_step, end_step)
        assert 0 <= rank < world_size, (rank, world_size)
        assert batch_size > 0, batch_size
        self.batch_size = batch_size
        self.steps = range(start_step, end_step)
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            first = (step * self.world_size + self.rank) * self.batch_size
            yield list(range(first, first + self.batch_size))


@dataclass(frozen=True)
class _Failure:
    """A user's mistake met in a worker; torch would bury an exception's one line in a traceback."""

    message: str


class _Guarded(Dataset[Sample | _Failure]):
    """A stream that returns mistakes instead of raising them."""

    def __init__(self, stream: SampleStream) -> None:
        self.stream = stream

    def __getitem__(self, number: int) -> Sample | _Failure:
        try:
            return self.stream[number]
        except InputError as error:
            return _Failure(str(error))


class StepLoader(DataLoader[Any]):
    """A DataLoader that raises a user's mistake as the one line it is, also from a worker."""

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, _Failure):
                raise InputError(batch.message)
            yield batch


def make_loader(
    stream: SampleStream,
    batch_size: int,
    start_step: int,
    end_step: int,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> StepLoader:
    """Makes the loader of one process's batches for the steps from ``start_step`` to before ``end_step``.

    It is sharded already: do not hand it to a function that shards loaders again. It takes nothing from
    torch's global random state.

    Args:
        stream: the samples.
        batch_size: samples a step of this process.
        start_step: the first step, 0 or where a resumed run goes on.
        end_step: the step to stop before.
        rank: this process's number.
        world_size: the number of processes.
        num_workers: worker processes; 0 loads in this one.
        pin_memory: whether batches are put into pinned memory for the copy to a GPU.
    """
    if num_workers:
        cv2.setNumThreads(0)  # its threads do not survive a fork, but what waits for them does
    return StepLoader(
        _Guarded(stream),
        batch_sampler=StepBatches(batch_size, start_step, end_step, rank, world_size),
        num_workers=num_workers,
        collate_fn=_collate,
        worker_init_fn=_start_worker,
        # Without a generator of its own, a loader draws from the global one and so disturbs a resumed run.
        generator=torch.Generator(),
        pin_memory=pin_memory,
    )


def _collate(samples: list[Sample | _Failure]) -> Any:
    for sample in samples:
        if isinstance(sample, _Failure):
            return sample
    return default_collate(samples)


def _start_worker(worker_id: int) -> None:
    """One thread a worker: workers are the parallelism. Signals are for the run to answer.

    Terminals and job queues signal every process of a group; a worker that died of it would take down the run
    before it has saved.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
