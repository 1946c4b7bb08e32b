"""The data sets of a run, opened as its configuration says."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from iccld.adaptation.method import Method
from iccld.config import DataConfig, TrainConfig
from iccld.data.datasets import SegmentationDataset, open_dataset
from iccld.data.identity import describe_data, shared_images
from iccld.errors import InputError
from iccld.labels import LabelSpace, get_label_space

Role = Literal["source", "target", "val"]

_SEEDS: Mapping[Role, int] = {"source": 1, "target": 2, "val": 3}  # scenes of the three sets never coincide


@dataclass
class RunData:
    """The data sets of a run.

    ``labeled`` is the source, or the target for the oracle; ``target`` is None where the method uses no unlabeled
    images. ``val`` has labeled target images to measure on, None where there are none, as ``missing_val`` explains.
    """

    label_space: LabelSpace
    labeled: SegmentationDataset
    target: SegmentationDataset | None
    val: SegmentationDataset | None = None
    missing_val: str = ""

    def describe(self) -> dict[str, dict[str, Any]]:
        """Describes the data sets by role, as ``iccld.data.identity`` does; ``InputError`` if a file is gone."""
        sets = {"labeled": self.labeled, "target": self.target, "val": self.val}
        return {role: describe_data(dataset) for role, dataset in sets.items() if dataset is not None}


def build_label_space(d: DataConfig) -> LabelSpace:
    """Finds the classes of the model: a built-in label space, or those of the source data set."""
    if d.label_space == "source":
        return _open(d, "source", None).label_space
    return get_label_space(d.label_space)


def build_data(config: TrainConfig, method: Method) -> RunData:
    """Opens the data sets and renders scenes.

    Warns on stderr, once a run, if images that the run is measured on are among those that it is trained on.

    Raises:
        InputError: a data set is missing or unusable, or a validation split that is named does not exist.
    """
    data = open_data(config, method)
    for dataset, use in (
        (data.labeled, "trained on with their labels"),
        (data.target, "adapted to without their labels"),
    ):
        shared = shared_images(data.val, dataset) if data.val is not None and dataset is not None else []
        if shared and data.val is not None and os.environ.get("RANK", "0") == "0":
            print(
                f"iccld: warning: {len(shared)} of the {len(data.val)} images of split {config.data.val_split} that "
                f"the run is measured on are {use} too (first {shared[0]}): its scores do not tell how it does on "
                "new images; give --data.val-split a split of other images",
                file=sys.stderr,
            )
    for dataset in (data.val, data.labeled, data.target):
        _render(dataset)
    return data


def open_data(config: TrainConfig, method: Method) -> RunData:
    """Opens the data sets without rendering scenes; errors as of ``build_data``."""
    d = config.data
    data = open_training(d, build_label_space(d), method)
    if d.val_split != DataConfig.val_split:  # only the split of the usual name may be missing
        _open(d, "val", data.label_space, needs_labels=False)
    try:
        data.val = _open(d, "val", data.label_space)
    except InputError as error:
        data.missing_val = str(error)
    return data


def open_training(d: DataConfig, space: LabelSpace, method: Method) -> RunData:
    """Opens what a method trains on: labeled images and, if it uses them, unlabeled ones of the target."""
    labeled = _open(d, "source" if method.labeled_domain == "source" else "target", space)
    target = _open(d, "target", space, needs_labels=False) if method.uses_target else None
    return RunData(space, labeled, target)


def open_target(config: TrainConfig, role: Role) -> SegmentationDataset:
    """Opens and renders the labeled images that a run is measured on (``val``) or those it adapts to (``target``)."""
    dataset = _open(config.data, role, build_label_space(config.data), needs_labels=role == "val")
    _render(dataset)
    return dataset


def _open(
    d: DataConfig, role: Role, space: LabelSpace | None, *, needs_labels: bool = True
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
        seed=_SEEDS[role],
        scene_cache=d.scene_cache,
    )


def _render(dataset: SegmentationDataset | None) -> None:
    prepare = getattr(dataset, "prepare", None)  # only street scenes have it
    if prepare is not None:
        prepare()
