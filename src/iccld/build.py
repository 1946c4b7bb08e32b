"""The one place where a configuration becomes objects."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning_utilities.core import rank_zero
from torch import nn

from iccld.adaptation.adaptsegnet import AdaptSegNet
from iccld.adaptation.advent import Advent, MinEnt
from iccld.adaptation.adversary import Adversary, AdversaryInput
from iccld.adaptation.dacs import DACS
from iccld.adaptation.daformer import DAFormer, FeatureDistance
from iccld.adaptation.fda import FDA
from iccld.adaptation.iccld import Adaptation
from iccld.adaptation.method import Method, SupervisedLoss, TimeSampling
from iccld.adaptation.mic import MIC
from iccld.adaptation.oracle import Oracle
from iccld.adaptation.self_training import SelfTraining
from iccld.adaptation.source_only import SourceOnly
from iccld.compute import choose_device, uses_bf16
from iccld.config import DataConfig, ModelConfig, TrainConfig
from iccld.data.cache import CachedDataset, check_room
from iccld.data.class_statistics import class_counts
from iccld.data.datasets import FileDataset, SegmentationDataset, open_dataset
from iccld.data.loaders import SampleStream, make_loader
from iccld.data.sampling import RareClassSampler, Sampler, UniformSampler
from iccld.data.transforms import TrainTransform
from iccld.errors import InputError
from iccld.inference.review import RunEvaluation
from iccld.labels import CITYSCAPES19, LabelSpace, get_label_space, protocol_of
from iccld.memory import keep_freed_memory
from iccld.models.discriminator import LatentDiscriminator, OutputDiscriminator
from iccld.models.iccld import ICCLD
from iccld.models.image_coder import build_image_coder
from iccld.models.layers import light_width
from iccld.pseudo_labels import PseudoLabels
from iccld.training.loop import Loaders, MicroBatches

_SOURCE_SEED, _TARGET_SEED, _VAL_SEED = 1, 2, 3  # scenes of the three sets never coincide
_THINGS = frozenset(
    (*CITYSCAPES19.names[6:8], *CITYSCAPES19.names[11:], "sign", "bicyclist")  # the last two: CamVid's names
)
_PRETRAINED_BACKBONES = ("efficientnet_lite0", "mit_", "auto:")


@dataclass
class RunData:
    """The data sets of a run.

    Attributes:
        label_space: classes of the model.
        labeled: images and labels to train on: the source, or the target for the oracle.
        target: unlabeled images; None where the method uses none.
        val: labeled target images to measure on; None where there are none.
        missing_val: why there is no ``val``.
    """

    label_space: LabelSpace
    labeled: SegmentationDataset
    target: SegmentationDataset | None
    val: SegmentationDataset | None
    missing_val: str = ""


def build_method(config: TrainConfig, label_space: LabelSpace) -> Method:
    """Makes the training method.

    Args:
        config: of the run.
        label_space: of the model.

    Raises:
        InputError: weights of a pretrained backbone that cannot be had.
    """
    a = config.adaptation
    supervised = SupervisedLoss(a.denoising_weight, a.reconstruction_weight)
    times = TimeSampling(a.share_at_one, a.self_aligned)
    start, warmup = round(a.start * config.steps), round(a.adversarial_warmup * config.steps)
    self_training = SelfTraining(
        start_step=start,
        teacher_steps=a.teacher_steps,
        teacher_draws=a.teacher_draws,
        pseudo_labels=PseudoLabels(a.weighting, a.threshold, a.keep, a.trust),
        mixing=a.mixing,
        jitter=a.color_jitter,
        mask_patch=a.mask_patch,
        mask_ratio=a.mask_ratio,
    )

    def adversary(seen: AdversaryInput) -> Adversary:
        # Relief is ours; the papers of the rivals have none.
        return Adversary(seen, a.adversarial_weight, start, warmup, relieve=config.method == "iccld")

    match config.method:
        case "source_only":
            return SourceOnly(supervised, times)
        case "oracle":
            return Oracle(supervised, times)
        case "adaptsegnet":
            return AdaptSegNet(supervised, times, adversary("probabilities"))
        case "advent":
            return Advent(supervised, times, adversary("self_information"))
        case "minent":
            return MinEnt(supervised, times, a.entropy_weight, start)
        case "fda":
            return FDA(supervised, times, a.entropy_weight, start, band=a.fda_band)
        case "dacs":
            return DACS(supervised, times, self_training)
        case "daformer" | "mic":
            kind = DAFormer if config.method == "daformer" else MIC
            distance = _build_feature_distance(config, label_space)
            return kind(supervised, times, self_training, feature_distance=distance)
        case "iccld":
            return Adaptation(
                supervised=supervised,
                time_sampling=times,
                self_training=self_training,
                masked=a.masked,
                color_transfer=a.color_transfer,
                adversary=adversary(a.adversarial_input) if a.adversarial_weight > 0 else None,
                num_domains=a.adversarial_domains,
            )


def _build_feature_distance(config: TrainConfig, label_space: LabelSpace) -> FeatureDistance | None:
    pretrained = _pretrained(config.model)
    if not pretrained or config.adaptation.feature_distance <= 0:
        return None
    coder = build_image_coder(config.model.backbone, pretrained=pretrained)
    things = tuple(i for i, name in enumerate(label_space.names) if name in _THINGS)
    return FeatureDistance(coder.requires_grad_(False).eval(), things, config.adaptation.feature_distance)


def _pretrained(m: ModelConfig) -> bool | str:
    if m.pretrained not in ("auto", "yes", "no"):
        return m.pretrained
    has_weights = m.backbone.startswith(_PRETRAINED_BACKBONES)
    return m.pretrained == "yes" or (m.pretrained == "auto" and has_weights)


def build_model(config: TrainConfig, label_space: LabelSpace) -> ICCLD:
    """Makes the segmenter; its random weights depend on the seed alone."""
    m = config.model
    torch.manual_seed(config.seed)
    return ICCLD(
        label_space,
        backbone=m.backbone,
        pretrained=_pretrained(m),
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
    """Makes the discriminator if the method has an adversary."""
    if method.adversary is None:
        return None
    torch.manual_seed(config.seed + 1)
    if method.adversary.input in ("probabilities", "self_information"):
        return OutputDiscriminator(len(label_space))
    m = config.model
    of_features = light_width(m.width) if m.light_steps else m.width
    of_latents = method.adversary.input == "latents"
    return LatentDiscriminator(m.latent_channels if of_latents else of_features)


def build_label_space(d: DataConfig) -> LabelSpace:
    """Finds the classes of the model: a built-in label space, or those of the source data set.

    Raises:
        InputError: no such space, or the source data set cannot be opened.
    """
    return _open_source(d, None).label_space if d.label_space == "source" else get_label_space(d.label_space)


def build_data(config: TrainConfig, method: Method) -> RunData:
    """Opens the data sets; scenes are rendered at once, with a progress bar.

    Raises:
        InputError: a data set is missing or unusable.
    """
    d = config.data
    space = build_label_space(d)
    labeled, target = _open_training(d, space, method)
    val, missing_val = None, ""
    try:
        val = build_val(config)
    except InputError as error:
        missing_val = str(error)
    _prepare(labeled)
    _prepare(target)
    return RunData(space, labeled, target, val, missing_val)


def _open_training(
    d: DataConfig, space: LabelSpace, method: Method
) -> tuple[SegmentationDataset, SegmentationDataset | None]:
    """What a method trains on: labeled images and, where it uses them, unlabeled ones of the target."""
    if method.labeled_domain == "source":
        labeled = _open_source(d, space)
    else:
        labeled = _open_target(d, space, d.target_split, d.target_count, _TARGET_SEED, needs_labels=True)
    target = None
    if method.uses_target:
        target = _open_target(d, space, d.target_split, d.target_count, _TARGET_SEED, needs_labels=False)
    return labeled, target


def build_val(config: TrainConfig) -> SegmentationDataset:
    """Opens the labeled target images that a run is measured on.

    Raises:
        InputError: they are missing or have no labels.
    """
    d = config.data
    val = _open_target(d, build_label_space(d), d.val_split, d.val_count, _VAL_SEED, needs_labels=True)
    _prepare(val)
    return val


def build_target(config: TrainConfig) -> SegmentationDataset:
    """Opens the target images that a run adapts to, without their labels.

    Raises:
        InputError: they are missing.
    """
    d = config.data
    space = build_label_space(d)
    target = _open_target(d, space, d.target_split, d.target_count, _TARGET_SEED, needs_labels=False)
    _prepare(target)
    return target


def _prepare(dataset: SegmentationDataset | None) -> None:
    prepare = getattr(dataset, "prepare", None)
    if prepare is not None:
        prepare()


def _open_source(d: DataConfig, space: LabelSpace | None) -> SegmentationDataset:
    height, width = d.source_size or d.crop
    return open_dataset(
        d.source,
        d.source_root,
        split=d.source_split,
        label_space=space,
        look=d.source_look,
        count=d.source_count,
        height=height,
        width=width,
        seed=_SOURCE_SEED,
        scene_cache=d.scene_cache,
    )


def _open_target(
    d: DataConfig, space: LabelSpace, split: str, count: int, seed: int, *, needs_labels: bool
) -> SegmentationDataset:
    height, width = d.target_size or d.crop
    return open_dataset(
        d.target,
        d.target_root,
        split=split,
        label_space=space,
        needs_labels=needs_labels,
        look=d.target_look,
        count=count,
        height=height,
        width=width,
        seed=seed,
        scene_cache=d.scene_cache,
    )


def build_loaders(config: TrainConfig, data: RunData, method: Method, fabric: Fabric, cache: Path) -> Loaders:
    """Makes the sources of micro-batches; counts classes once where rare-class sampling needs it."""
    d = config.data
    is_source = method.labeled_domain == "source"
    transform = TrainTransform(d.crop, d.scale, resize=d.source_size if is_source else d.target_size)
    sampler: Sampler = UniformSampler(len(data.labeled), config.seed)
    if d.rare_class_sampling and is_source:
        sampler = RareClassSampler(class_counts(data.labeled, cache), d.rare_class_temperature)
    labeled = SampleStream(_kept(data.labeled, d, transform.resize), transform, sampler, config.seed, True, 0)
    target = None
    if data.target is not None:
        target_transform = TrainTransform(
            d.crop, d.scale, resize=d.target_size, ignore_top=d.ignore_top, ignore_bottom=d.ignore_bottom
        )
        target_sampler = UniformSampler(len(data.target), config.seed + 1)
        kept = _kept(data.target, d, d.target_size)
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
    labeled, target = _open_training(d, build_label_space(d), method)
    labeled_size = d.source_size if method.labeled_domain == "source" else d.target_size
    both = [_kept(labeled, d, labeled_size)]
    if target is not None:
        both.append(_kept(target, d, d.target_size))
    return [dataset for dataset in both if isinstance(dataset, CachedDataset)]


def _kept(dataset: SegmentationDataset, d: DataConfig, size: tuple[int, int] | None) -> SegmentationDataset:
    """The same from the cache, if there is one and it is a data set of files."""
    if d.cache is None or not isinstance(dataset, FileDataset):
        return dataset
    return CachedDataset(dataset, d.cache, size)


def _micro_batches(stream: SampleStream, d: DataConfig, fabric: Fabric) -> MicroBatches:
    def batches(start: int, end: int) -> Iterator[dict[str, Any]]:
        return iter(
            make_loader(
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


def build_evaluation(config: TrainConfig, data: RunData) -> RunEvaluation | None:
    """Makes what measures the teacher on the validation split; None where it has no labels."""
    return None if data.val is None else RunEvaluation(data.val, protocol_of(data.label_space))


def build_fabric(config: TrainConfig) -> Fabric:
    """Makes the engine; under ``torchrun`` it joins the other ranks (gloo on CPUs, NCCL on GPUs)."""
    device = choose_device(config.device)
    if device not in ("cpu", "cuda", "mps"):
        raise InputError(f"device {device!r} is unknown; choose auto, cpu, cuda or mps")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device cuda: torch sees no CUDA GPU here; use --device cpu, or install a CUDA build"
        )
    if device == "mps" and not torch.backends.mps.is_available():
        raise InputError("device mps: torch sees no Apple GPU here; use --device cpu")
    local_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    threads = config.threads or max(1, (os.cpu_count() or 1) // local_ranks)
    torch.set_num_threads(threads)
    if device == "cpu":
        keep_freed_memory()
    bf16 = uses_bf16(device, config.precision)
    # Some weights take no part then: those that feed the links that are off, the label encoder of plain heads, the
    # mask tokens and last norms of other libraries' networks. Distributed training has to be told.
    m = config.model
    some_idle = not (m.context_links and m.detail_links and m.diffusion) or m.backbone.startswith("auto:")
    strategy = "ddp_find_unused_parameters_true" if some_idle else "ddp"
    rank_zero.log.setLevel(logging.WARNING)  # it announces bf16; so do we
    fabric = Fabric(
        accelerator="gpu" if device == "cuda" else device,
        devices=local_ranks,
        num_nodes=max(1, world_size // local_ranks),
        strategy=strategy if world_size > 1 else "auto",
        precision="bf16-mixed" if bf16 else "32-true",
    )
    fabric.launch()
    return fabric
