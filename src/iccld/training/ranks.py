"""Communication of the ranks of a distributed run: equal settings and data, common decisions, lost ranks."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning.fabric import Fabric

from iccld.config import DATA_FOLDERS, TrainConfig
from iccld.data.identity import role_title
from iccld.data.interface import SegmentationDataset
from iccld.errors import InputError, RunFailedError
from iccld.exits import EXIT_USAGE
from iccld.training.tracking import flat_settings

# Settings that may differ between ranks: folders on the machine of a rank, and settings that do not affect the results.
_LOCAL = {"device", "threads", "trackers"}
_LOCAL |= {f"data.{name}" for name in DATA_FOLDERS}
_LOCAL |= {"data.scene_cache", "data.cache", "data.num_workers"}


def require_equal_ranks(
    fabric: Fabric, config: TrainConfig, data: Mapping[str, SegmentationDataset], start: int
) -> None:
    """Checks that all ranks have the same settings, data sets and first step as rank zero.

    ``data`` maps roles to data sets, and ``start`` is the first step. If ranks differ, rank zero raises ``InputError``
    with the first difference. All other ranks raise ``SystemExit``.
    """
    if fabric.world_size == 1:
        return
    own = {f"--{k.replace('_', '-')}": v for k, v in flat_settings(config).items() if k not in _LOCAL}
    own |= {"start": f"step {start}"} | {role_title(role): _digest(dataset) for role, dataset in data.items()}
    ranks: list[Mapping[str, str]] = [{} for _ in range(fabric.world_size)]
    torch.distributed.all_gather_object(ranks, own)
    differing = [
        (rank, name)
        for rank, other in enumerate(ranks)
        for name in {**ranks[0], **other}
        if other.get(name) != ranks[0].get(name)
    ]
    if not differing:
        return
    fabric.barrier()  # no rank exits before all ranks have finished the comparison
    if not fabric.is_global_zero:
        raise SystemExit(EXIT_USAGE)
    rank, name = differing[0]
    raise InputError(
        f"rank {rank} differs from rank 0: {name} is {ranks[rank].get(name)} there and {ranks[0].get(name)} here; "
        "start all ranks with the same command, the same data and one folder for the run that all can read"
    )


def _digest(dataset: SegmentationDataset) -> str:
    names = "\n".join([*dataset.label_space.names, *(dataset.file_name(i) for i in range(len(dataset)))])
    return f"{len(dataset)} images of {dataset.name} ({hashlib.sha256(names.encode()).hexdigest()[:8]})"


@contextlib.contextmanager
def explaining_lost_ranks() -> Iterator[None]:
    """Replaces torch's error by a ``RunFailedError`` of one line if the connection to another rank is lost."""
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, torch.distributed.DistError) or "/gloo/" in str(error)
        if isinstance(error, RunFailedError) or not lost:
            raise
        raise RunFailedError(
            "another rank has ended, so this one stops; its last lines say why; the same command goes on from the "
            "last checkpoint"
        ) from error


def agree(fabric: Fabric, *codes: int) -> list[int]:
    """Returns the element-wise maximum of the codes over all ranks, so that all ranks continue with equal codes."""
    if fabric.world_size == 1:
        return list(codes)
    own = torch.tensor(codes, dtype=torch.int64, device=fabric.device)
    greatest: Any = fabric.all_reduce(own, reduce_op="max")
    return [int(code) for code in greatest.tolist()]
