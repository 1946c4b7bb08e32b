"""Builds the objects of a run from its configuration: method, networks, loaders and the Fabric engine."""

from __future__ import annotations

import logging
import os
import pkgutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning_utilities.core import rank_zero
from torch import nn

from iccld.adaptation.method import Method
from iccld.compute import choose_device, uses_bf16
from iccld.config import DataConfig, TrainConfig
from iccld.data.cache import CachedDataset, check_room
from iccld.data.datasets import FileDataset
from iccld.data.interface import SegmentationDataset
from iccld.data.loaders import (
    JoinedStream,
    RareClassSampler,
    SampleStream,
    StepLoader,
    Stream,
    UniformSampler,
    WeightedStreams,
    class_counts,
)
from iccld.data.transforms import TrainTransform
from iccld.errors import InputError
from iccld.labels import LabelSpace
from iccld.machine import end_with_parent, keep_freed_memory, release_freed_memory
from iccld.methods import METHODS
from iccld.models.iccld import ICCLD
from iccld.models.image_coder import BACKBONE_NAMES, pretrained_weights
from iccld.models.light import light_width
from iccld.models.networks import LatentDiscriminator, OutputDiscriminator
from iccld.plugins import find_class
from iccld.run_data import RunData, build_label_space, open_data, open_training
from iccld.threads import most_threads, set_threads
from iccld.training.loop import Loaders, MicroBatches


def reopen_data(config: TrainConfig) -> RunData | None:
    """Opens the data sets of a run without rendering scenes. Returns ``None`` if a data set is missing."""
    # With weight 0, ``build_method`` loads no pretrained weights for the feature distance.
    plain = replace(config, adaptation=replace(config.adaptation, feature_distance=0.0))
    try:
        return open_data(config, build_method(plain, build_label_space(config.data)))
    except InputError:
        return None


def build_method(config: TrainConfig, label_space: LabelSpace) -> Method:
    """Builds the training method for a model with the given classes.

    Raises:
        InputError: The method's class is code of another package and has not been imported (see ``iccld.plugins``), or
            the weights of a pretrained backbone cannot be read.
    """
    if config.method in METHODS:
        found: type[Method] = pkgutil.resolve_name(METHODS[config.method])
    else:
        found = find_class("method", config.method, Method)
    return found.from_config(config, label_space)


def build_model(config: TrainConfig, label_space: LabelSpace) -> ICCLD:
    """Builds the segmenter. The run's seed determines the random initial weights."""
    m = config.model
    torch.manual_seed(config.seed)
    return ICCLD(
        label_space,
        backbone=m.backbone,
        pretrained=pretrained_weights(m.backbone, m.pretrained),
        latent_channels=m.latent_channels,
        width=m.width,
        context_links=m.context_links,
        detail_links=m.detail_links,
        diffusion=m.diffusion,
        reencoding=m.reencoding,
        light_steps=m.light_steps,
        input_height=config.data.target_size[0] if config.data.target_size else 0,
    )


def build_discriminator(config: TrainConfig, method: Method, label_space: LabelSpace) -> nn.Module | None:
    """Builds the discriminator. Returns ``None`` if the method has no adversary."""
    if method.adversary is None:
        return None
    torch.manual_seed(config.seed + 1)
    if method.adversary.input in ("probabilities", "self_information"):
        return OutputDiscriminator(len(label_space))
    m = config.model
    width = light_width(m.width) if m.light_steps else m.width
    return LatentDiscriminator(m.latent_channels if method.adversary.input == "latents" else width)


def build_loaders(config: TrainConfig, data: RunData, method: Method, fabric: Fabric, cache: Path) -> Loaders:
    """Builds the loaders of training images.

    With rare-class sampling, the pixels of each class are counted first.

    Args:
        config: Settings of the run.
        data: Data sets of the run.
        method: Method of the run.
        fabric: Launched Fabric.
        cache: Folder in which class counts are stored for later runs.
    """
    d = config.data
    transform = replace(_transform(d, method.labeled_domain), photometric=d.photometric)
    streams = []
    for number, dataset in enumerate(data.sources):
        # The streams 1 and 2 are the unlabeled and the labeled target images, so the sources are 0, 3, 4, …
        stream_id = number and number + 2
        sampler: UniformSampler | RareClassSampler = UniformSampler(len(dataset), config.seed + stream_id)
        if d.rare_class_sampling:
            sampler = RareClassSampler(class_counts(dataset, cache), d.rare_class_temperature)
        images = _cached(dataset, d, transform)
        streams.append(SampleStream(images, transform, sampler, config.seed, True, stream_id))
    labeled: SampleStream | WeightedStreams = streams[0]
    if len(streams) > 1:
        labeled = WeightedStreams(tuple(streams), d.source_weights or (1.0,) * len(streams))
    target = None
    if data.target is not None:
        transform = replace(_transform(d, "target"), ignore_top=d.ignore_top, ignore_bottom=d.ignore_bottom)
        sampler = UniformSampler(len(data.target), config.seed + 1)
        images = _cached(data.target, d, transform)
        streams.append(SampleStream(images, transform, sampler, config.seed, False, 1))
        target = _micro_batches(streams[-1], d, fabric)
    joined: Stream = labeled
    if data.target_labeled is not None:
        transform = replace(_transform(d, "target"), photometric=d.photometric)
        sampler = UniformSampler(len(data.target_labeled), config.seed + 2)
        few = _cached(data.target_labeled, d, transform)
        streams.append(SampleStream(few, transform, sampler, config.seed, True, 2))
        joined = JoinedStream(labeled, streams[-1], d.batch_size)
    check_room([s.dataset for s in streams if isinstance(s.dataset, CachedDataset)])
    return Loaders(_micro_batches(joined, d, fabric), target)


def build_caches(config: TrainConfig, method: Method) -> list[CachedDataset]:
    """Opens the image caches of a run. Data sets that do not consist of files have no cache.

    Raises:
        InputError: A data set cannot be opened.
    """
    d = config.data
    data = open_training(d, build_label_space(d), method)
    sets = [_cached(source, d, _transform(d, method.labeled_domain)) for source in data.sources]
    for dataset in (data.target, data.target_labeled):
        if dataset is not None:
            sets.append(_cached(dataset, d, _transform(d, "target")))
    return [dataset for dataset in sets if isinstance(dataset, CachedDataset)]


def _transform(d: DataConfig, domain: str) -> TrainTransform:
    if domain == "target":
        return TrainTransform(d.crop, d.scale, resize=d.target_size)
    return TrainTransform(
        d.crop, d.scale, resize=d.source_size, stretch=d.source_stretch, most_of_one_class=d.cat_max_ratio
    )


def _cached(dataset: SegmentationDataset, d: DataConfig, transform: TrainTransform) -> SegmentationDataset:
    if d.cache is None or not isinstance(dataset, FileDataset):
        return dataset
    return CachedDataset(dataset, d.cache, transform.resize, stretch=transform.stretch)


def _micro_batches(stream: Stream, d: DataConfig, fabric: Fabric) -> MicroBatches:
    def batches(start: int, end: int) -> Iterator[dict[str, Any]]:
        release_freed_memory()  # otherwise forked workers would keep this memory until they end
        ranks = {"rank": fabric.global_rank, "world_size": fabric.world_size}
        pin = fabric.device.type == "cuda"
        loader = StepLoader(
            stream, d.batch_size, start, end, **ranks, num_workers=d.num_workers, pin_memory=pin
        )
        return iter(loader)

    return batches


def build_fabric(config: TrainConfig) -> Fabric:
    """Builds and launches the Fabric engine.

    Under ``torchrun``, the process is connected to the other ranks. CPUs use gloo, and GPUs use NCCL.

    Raises:
        InputError: The device is unknown or not available.
    """
    device, m = choose_device(config.device), config.model
    if device not in ("cpu", "cuda", "mps"):
        raise InputError(f"device {device!r} is unknown; choose auto, cpu, cuda or mps")
    if device != "cpu" and not (torch.cuda if device == "cuda" else torch.backends.mps).is_available():
        gpu = {"cuda": "CUDA GPU here; use --device cpu, or install a CUDA build", "mps": "Apple GPU here"}
        raise InputError(f"device {device}: torch sees no {gpu[device]}")
    local_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    set_threads(config.threads or most_threads(local_ranks))
    if device == "cpu":
        keep_freed_memory()
    # DDP needs a special mode if some weights do not affect the loss. Examples are the weights of disabled links, the
    # label encoder of a model without diffusion, and the mask token and the last norm of a ``transformers`` backbone.
    # A backbone of another package may have such weights too.
    some_idle = not (m.context_links and m.detail_links and m.diffusion) or m.backbone not in BACKBONE_NAMES
    strategy = "ddp_find_unused_parameters_true" if some_idle else "ddp"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent()  # if the launcher is killed, the ranks save a checkpoint and end
    rank_zero.log.setLevel(logging.WARNING)  # hides Lightning's message on bf16, because iccld prints one
    fabric = Fabric(
        accelerator="gpu" if device == "cuda" else device,
        devices=local_ranks,
        num_nodes=max(1, world_size // local_ranks),
        strategy=strategy if world_size > 1 else "auto",
        precision="bf16-mixed" if uses_bf16(device, config.precision) else "32-true",
    )
    fabric.launch()
    fabric.barrier()  # rank 0 checks the run's folder before any rank writes to the folder
    return fabric
