"""Training methods of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from iccld.adaptation.adaptsegnet import AdaptSegNet, output_adversary
from iccld.adaptation.advent import Advent, MinEnt
from iccld.adaptation.dacs import DACS
from iccld.adaptation.daformer import DAFormer, FeatureDistance
from iccld.adaptation.fda import FDA
from iccld.adaptation.iccld import Adaptation
from iccld.adaptation.losses import Adversary, SupervisedLoss
from iccld.adaptation.method import Method
from iccld.adaptation.mic import MIC
from iccld.adaptation.oracle import Oracle
from iccld.adaptation.self_training import Code, PseudoLabels, SelfTraining
from iccld.adaptation.source_only import SourceOnly
from iccld.assembly.datasets import RunData, build_label_space, open_data
from iccld.assembly.networks import pretrained_weights
from iccld.config import TrainConfig
from iccld.errors import InputError
from iccld.labels import CITYSCAPES19, LabelSpace
from iccld.models.iccld import TimeSampling
from iccld.models.image_coder import build_image_coder

_THINGS = frozenset(
    (*CITYSCAPES19.names[6:8], *CITYSCAPES19.names[11:], "sign", "bicyclist")  # the last two: CamVid's names
)

_PUBLISHED_CODE: Mapping[str, Code] = {"dacs": "dacs", "daformer": "daformer", "mic": "daformer"}


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
        code=_PUBLISHED_CODE.get(config.method, "iccld"),
        jitter=a.color_jitter,
        mask_patch=a.mask_patch or max(1, round(min(config.data.crop) / 16)),
        mask_ratio=a.mask_ratio,
    )

    own_adversary = Adversary(a.adversarial_input, a.adversarial_weight, start, warmup)

    def published(seen: Literal["probabilities", "self_information"]) -> Adversary:
        known = output_adversary(seen)
        return replace(known, weight=a.adversarial_weight, start_step=start, warmup_steps=warmup)

    match config.method:
        case "source_only":
            return SourceOnly(supervised, times)
        case "oracle":
            return Oracle(supervised, times)
        case "adaptsegnet":
            return AdaptSegNet(supervised, times, published("probabilities"))
        case "advent":
            return Advent(supervised, times, published("self_information"))
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
                class_color_transfer=a.class_color_transfer,
                adversary=own_adversary if a.adversarial_weight > 0 else None,
                num_domains=a.adversarial_domains,
            )


def reopen_data(config: TrainConfig) -> RunData | None:
    """Opens the data sets of a run that is over, to look at them: no scene is rendered and no weights are loaded.

    Returns:
        None where they are not there any more.
    """
    plain = replace(config, adaptation=replace(config.adaptation, feature_distance=0.0))
    try:
        return open_data(config, build_method(plain, build_label_space(config.data)))
    except InputError:
        return None


def _build_feature_distance(config: TrainConfig, label_space: LabelSpace) -> FeatureDistance | None:
    pretrained = pretrained_weights(config.model)
    if not pretrained or config.adaptation.feature_distance <= 0:
        return None
    coder = build_image_coder(config.model.backbone, pretrained=pretrained)
    things = tuple(i for i, name in enumerate(label_space.names) if name in _THINGS)
    return FeatureDistance(coder.requires_grad_(False).eval(), things, config.adaptation.feature_distance)
