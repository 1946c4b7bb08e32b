"""What feeds a run: samples, caches, micro-batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.fabric import Fabric

from iccld.adaptation.method import Method
from iccld.assembly.datasets import RunData, build_label_space, open_training
from iccld.config import DataConfig, TrainConfig
from iccld.data.cache import CachedDataset, check_room
from iccld.data.datasets import FileDataset, SegmentationDataset
from iccld.data.loaders import SampleStream, StepLoader
from iccld.data.sampling import RareClassSampler, Sampler, UniformSampler, class_counts
from iccld.data.transforms import TrainTransform
from iccld.machine import release_freed_memory
from iccld.training.loop import Loaders, MicroBatches


def build_loaders(config: TrainConfig, data: RunData, method: Method, fabric: Fabric, cache: Path) -> Loaders:
    """Makes the sources of micro-batches; counts classes once where rare-class sampling needs it."""
    d = config.data
    is_source = method.labeled_domain == "source"
    transform = _source_transform(d) if is_source else _target_transform(d)
    sampler: Sampler = UniformSampler(len(data.labeled), config.seed)
    if d.rare_class_sampling:
        sampler = RareClassSampler(class_counts(data.labeled, cache), d.rare_class_temperature)
    labeled = SampleStream(_kept(data.labeled, d, transform), transform, sampler, config.seed, True, 0)
    target = None
    if data.target is not None:
        target_transform = replace(
            _target_transform(d), ignore_top=d.ignore_top, ignore_bottom=d.ignore_bottom
        )
        target_sampler = UniformSampler(len(data.target), config.seed + 1)
        kept = _kept(data.target, d, target_transform)
        target = SampleStream(kept, target_transform, target_sampler, config.seed, False, 1)
    streams = [labeled] if target is None else [labeled, target]
    check_room([s.dataset for s in streams if isinstance(s.dataset, CachedDataset)])
    return Loaders(
        _micro_batches(labeled, d, fabric), _micro_batches(target, d, fabric) if target is not None else None
    )


def build_caches(config: TrainConfig, method: Method) -> list[CachedDataset]:
    """Opens the caches that a run trains from: of its data sets of files, one or two; nothing else is opened.

    Raises:
        InputError: a data set cannot be opened.
    """
    d = config.data
    labeled, target = open_training(d, build_label_space(d), method)
    is_source = method.labeled_domain == "source"
    both = [_kept(labeled, d, _source_transform(d) if is_source else _target_transform(d))]
    if target is not None:
        both.append(_kept(target, d, _target_transform(d)))
    return [dataset for dataset in both if isinstance(dataset, CachedDataset)]


def _source_transform(d: DataConfig) -> TrainTransform:
    return TrainTransform(
        d.crop, d.scale, resize=d.source_size, stretch=d.source_stretch, most_of_one_class=d.cat_max_ratio
    )


def _target_transform(d: DataConfig) -> TrainTransform:
    return TrainTransform(d.crop, d.scale, resize=d.target_size)


def _kept(dataset: SegmentationDataset, d: DataConfig, transform: TrainTransform) -> SegmentationDataset:
    """The same from the cache, if there is one and it is a data set of files."""
    if d.cache is None or not isinstance(dataset, FileDataset):
        return dataset
    return CachedDataset(dataset, d.cache, transform.resize, stretch=transform.stretch)


def _micro_batches(stream: SampleStream, d: DataConfig, fabric: Fabric) -> MicroBatches:
    def batches(start: int, end: int) -> Iterator[dict[str, Any]]:
        release_freed_memory()  # workers that are forked would hold it for as long as they live
        return iter(
            StepLoader(
                stream,
                d.batch_size,
                start,
                end,
                rank=fabric.global_rank,
                world_size=fabric.world_size,
                num_workers=d.num_workers,
                pin_memory=fabric.device.type == "cuda",
            )
        )

    return batches
