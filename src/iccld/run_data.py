"""The data sets of a run, opened according to its configuration.

Functions raise ``InputError`` if a data set is missing or unusable.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from iccld.adaptation.method import Method
from iccld.config import DataConfig, TrainConfig
from iccld.data.datasets import open_dataset
from iccld.data.identity import describe_data, shared_images
from iccld.data.interface import SegmentationDataset
from iccld.data.street_scenes import StreetScenes
from iccld.errors import InputError
from iccld.labels import LabelSpace, get_label_space

Role = Literal["source", "target", "val"]

_SEEDS: Mapping[Role, int] = {"source": 1, "target": 2, "val": 3}  # different scenes in the three sets
_SOURCE_VAL_SEED = 4


@dataclass
class RunData:
    """Data sets of a run.

    Attributes:
        label_space: Classes of the model.
        labeled: Images and labels for training: the source data set, or the target data set for the method oracle.
        target: Unlabeled target images, or ``None`` if the method does not use them.
        target_labeled: Labeled target images for training in addition to ``labeled``, or ``None``.
        more: Images and labels of further source data sets.
        val: Labeled target images for evaluation, or ``None`` if there are none.
        missing_val: Reason why ``val`` is ``None``.
    """

    label_space: LabelSpace
    labeled: SegmentationDataset
    target: SegmentationDataset | None
    target_labeled: SegmentationDataset | None = None
    more: tuple[SegmentationDataset, ...] = ()
    val: SegmentationDataset | None = None
    missing_val: str = ""

    @property
    def sources(self) -> tuple[SegmentationDataset, ...]:
        """All data sets of labeled images, except for labeled target images beside a source."""
        return (self.labeled, *self.more)

    @property
    def trained_on(self) -> dict[str, SegmentationDataset]:
        """The data sets that the run trains on, by role. The role of the second source is ``labeled_2``."""
        sets = {"labeled": self.labeled, "target": self.target, "target_labeled": self.target_labeled}
        sets |= {f"labeled_{number}": dataset for number, dataset in enumerate(self.more, 2)}
        return {role: dataset for role, dataset in sets.items() if dataset is not None}

    def describe(self) -> dict[str, dict[str, Any]]:
        """Returns the description of each data set by role (see ``iccld.data.identity.describe_data``)."""
        sets = self.trained_on | ({} if self.val is None else {"val": self.val})
        return {role: describe_data(dataset) for role, dataset in sets.items()}


def build_label_space(d: DataConfig) -> LabelSpace:
    """Returns the classes of the model: a built-in label space, or the label space of the source data set."""
    if d.label_space == "source":
        return _open(d, "source", None).label_space
    return get_label_space(d.label_space)


def build_data(config: TrainConfig, method: Method) -> RunData:
    """Opens the data sets of a run and renders scenes. Rank 0 warns if ``val`` contains training images."""
    data = open_data(config, method)
    for role, dataset in data.trained_on.items():
        use = "adapted to without their labels" if role == "target" else "trained on with their labels"
        shared = shared_images(data.val, dataset) if data.val is not None else []
        if shared and data.val is not None and os.environ.get("RANK", "0") == "0":
            print(
                f"iccld: warning: {len(shared)} of the {len(data.val)} images of split {config.data.val_split} that "
                f"the run is measured on are {use} too (first {shared[0]}): its scores do not tell how it does on "
                "new images; give --data.val-split a split of other images",
                file=sys.stderr,
            )
    for part in (data.val, *data.trained_on.values()):
        _render(part)
    return data


def open_data(config: TrainConfig, method: Method) -> RunData:
    """Opens the data sets of a run without rendering scenes. Without labeled validation images, ``val`` is ``None``.

    Raises ``InputError`` if the settings name another validation split than the default, and this split does not exist.
    The default split may be missing.
    """
    d = config.data
    data = open_training(d, build_label_space(d), method)
    if d.val_split != DataConfig.val_split:
        _open(d, "val", data.label_space, needs_labels=False)
    try:
        data.val = _open(d, "val", data.label_space)
    except InputError as error:
        data.missing_val = str(error)
    return data


def open_training(d: DataConfig, space: LabelSpace, method: Method) -> RunData:
    """Opens the training data of a method.

    These are labeled images of one or more sources, unlabeled target images if the method uses them, and labeled target
    images if there are some.
    """
    labeled = _open(d, "source" if method.labeled_domain == "source" else "target", space)
    target = _open(d, "target", space, needs_labels=False) if method.uses_target else None
    few = None
    if d.target_labeled is not None:
        few = open_dataset("folder", d.target_labeled, split="train", label_space=space)
    more = (
        () if method.labeled_domain == "target" else tuple(_open(s, "source", space) for s in d.sources[1:])
    )
    return RunData(space, labeled, target, few, more)


def open_target(config: TrainConfig, role: Role) -> SegmentationDataset:
    """Opens a run's labeled evaluation images (``val``) or unlabeled target images (``target``).

    If the images are street scenes, missing scenes are rendered.
    """
    dataset = _open(config.data, role, build_label_space(config.data), needs_labels=role == "val")
    _render(dataset)
    return dataset


def open_source_val(config: TrainConfig) -> SegmentationDataset:
    """Opens the split ``val`` of a run's source. If the source is street scenes, these are scenes of another seed."""
    d = replace(config.data, source_split="val", source_count=config.data.val_count)
    dataset = _open(d, "source", build_label_space(config.data), seed=_SOURCE_VAL_SEED)
    _render(dataset)
    return dataset


def _open(
    d: DataConfig, role: Role, space: LabelSpace | None, *, needs_labels: bool = True, seed: int | None = None
) -> SegmentationDataset:
    domain = "source" if role == "source" else "target"
    height, width = getattr(d, f"{domain}_size") or d.crop
    return open_dataset(
        getattr(d, domain),
        getattr(d, f"{domain}_root"),
        split=getattr(d, f"{role}_split"),
        label_space=space,
        needs_labels=needs_labels,
        look=getattr(d, f"{domain}_look"),
        count=getattr(d, f"{role}_count"),
        height=height,
        width=width,
        seed=_SEEDS[role] if seed is None else seed,
        scene_cache=d.scene_cache,
    )


def _render(dataset: SegmentationDataset | None) -> None:
    if isinstance(dataset, StreetScenes):
        dataset.prepare()
