"""Data sets of a configuration."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Any

from iccld.adaptation.method import Method
from iccld.config import DataConfig, TrainConfig
from iccld.data.datasets import SegmentationDataset, open_dataset
from iccld.data.identity import describe_data, shared_images
from iccld.errors import InputError
from iccld.inference.review import RunEvaluation
from iccld.labels import LabelSpace, get_label_space, protocol_of

_SOURCE_SEED, _TARGET_SEED, _VAL_SEED = 1, 2, 3  # scenes of the three sets never coincide


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


def build_label_space(d: DataConfig) -> LabelSpace:
    """Finds the classes of the model: a built-in label space, or those of the source data set.

    Raises:
        InputError: no such space, or the source data set cannot be opened.
    """
    return _open_source(d, None).label_space if d.label_space == "source" else get_label_space(d.label_space)


def build_data(config: TrainConfig, method: Method) -> RunData:
    """Opens the data sets; scenes are rendered at once, with a progress bar.

    Images that a run is measured on and trained on are counted in a warning on stderr.

    Raises:
        InputError: a data set is missing or unusable, or a validation split that is named does not exist.
    """
    data = open_data(config, method)
    _warn_of_overlap(config.data, data.val, data.labeled, data.target)
    for dataset in (data.val, data.labeled, data.target):
        _prepare(dataset)
    return data


def open_data(config: TrainConfig, method: Method) -> RunData:
    """Opens the data sets without rendering scenes.

    Raises:
        InputError: as of ``build_data``.
    """
    d = config.data
    space = build_label_space(d)
    labeled, target = open_training(d, space, method)
    val, missing_val = None, ""
    if d.val_split != DataConfig.val_split:
        # Of the usual name there need not be one; another is a split that somebody means.
        _open_target(d, space, d.val_split, d.val_count, _VAL_SEED, needs_labels=False)
    try:
        val = _open_val(d, space)
    except InputError as error:
        missing_val = str(error)
    return RunData(space, labeled, target, val, missing_val)


def describe_run_data(data: RunData) -> dict[str, dict[str, Any]]:
    """What a run's data sets are, by role, as ``iccld.data.identity`` describes each.

    Raises:
        InputError: a file is gone.
    """
    sets = {"labeled": data.labeled, "target": data.target, "val": data.val}
    return {role: describe_data(dataset) for role, dataset in sets.items() if dataset is not None}


def _warn_of_overlap(
    d: DataConfig,
    val: SegmentationDataset | None,
    labeled: SegmentationDataset,
    target: SegmentationDataset | None,
) -> None:
    """Says on stderr, once a run, that its figures are taken on images that it learns from."""
    if val is None or os.environ.get("RANK", "0") != "0":
        return
    for dataset, use in (
        (labeled, "trained on with their labels"),
        (target, "adapted to without their labels"),
    ):
        shared = shared_images(val, dataset) if dataset is not None else []
        if shared:
            print(
                f"iccld: warning: {len(shared)} of the {len(val)} images of split {d.val_split} that the run is "
                f"measured on are {use} too (first {shared[0]}): its scores do not tell how it does on new images; "
                "give --data.val-split a split of other images",
                file=sys.stderr,
            )


def build_val(config: TrainConfig) -> SegmentationDataset:
    """Opens the labeled target images that a run is measured on.

    Raises:
        InputError: they are missing or have no labels.
    """
    val = _open_val(config.data, build_label_space(config.data))
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


def build_evaluation(config: TrainConfig, data: RunData) -> RunEvaluation | None:
    """Makes what measures the teacher on the validation split; None where it has no labels."""
    return None if data.val is None else RunEvaluation(data.val, protocol_of(data.label_space))


def open_training(
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


def _open_val(d: DataConfig, space: LabelSpace) -> SegmentationDataset:
    return _open_target(d, space, d.val_split, d.val_count, _VAL_SEED, needs_labels=True)


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


def _prepare(dataset: SegmentationDataset | None) -> None:
    prepare = getattr(dataset, "prepare", None)
    if prepare is not None:
        prepare()
