"""What the ranks of a distributed run tell each other before it starts, and what is said when one of them is gone."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping

import torch
from lightning.fabric import Fabric

from iccld.assembly.datasets import RunData
from iccld.config import TrainConfig, to_dict
from iccld.data.datasets import SegmentationDataset
from iccld.errors import InputError, RunFailedError
from iccld.exits import EXIT_USAGE

# May differ between ranks: folders of one machine, and what changes no number.
_LOCAL = ("device", "threads", "trackers")
_LOCAL_DATA = ("source_root", "target_root", "scene_cache", "cache", "num_workers")


def require_equal_ranks(fabric: Fabric, config: TrainConfig, data: RunData, start: int) -> None:
    """Ends all ranks where one has other settings, other data or another step to start from than rank zero.

    Args:
        fabric: launched.
        config: of this rank.
        data: of this rank.
        start: the step that this rank's checkpoint is of.

    Raises:
        InputError: on rank zero; names the difference.
        SystemExit: on the others.
    """
    if fabric.world_size == 1:
        return
    own = {**_settings(config), "labeled images": _digest(data.labeled), "start": f"step {start}"}
    if data.target is not None:
        own["target images"] = _digest(data.target)
    ranks: list[Mapping[str, str]] = [{} for _ in range(fabric.world_size)]
    torch.distributed.all_gather_object(ranks, own)
    for rank, other in enumerate(ranks):
        for name in {**ranks[0], **other}:
            if ranks[0].get(name) == other.get(name):
                continue
            fabric.barrier()  # none ends before all know
            if not fabric.is_global_zero:
                raise SystemExit(EXIT_USAGE)
            raise InputError(
                f"rank {rank} differs from rank 0: {name} is {other.get(name)} there and {ranks[0].get(name)} here; "
                "start all ranks with the same command, the same data and one folder for the run that all can read"
            )


@contextlib.contextmanager
def explaining_lost_ranks() -> Iterator[None]:
    """Turns the errors of a connection to a rank that is gone into one line.

    Raises:
        RunFailedError: another rank has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, RunFailedError) or not _is_lost_connection(error):
            raise
        raise RunFailedError(
            "another rank has ended, so this one stops; its last lines say why; the same command goes on from the "
            "last checkpoint"
        ) from error


def _is_lost_connection(error: RuntimeError) -> bool:
    kinds = tuple(
        getattr(torch.distributed, name)
        for name in ("DistError", "DistBackendError")
        if hasattr(torch.distributed, name)
    )
    return isinstance(error, kinds) or "/gloo/" in str(error)


def _settings(config: TrainConfig) -> dict[str, str]:
    plain = to_dict(config)
    flat = {
        f"{group}.{k}": v for group, part in plain.items() if isinstance(part, dict) for k, v in part.items()
    }
    flat |= {name: value for name, value in plain.items() if not isinstance(value, dict)}
    local = {*_LOCAL, *(f"data.{name}" for name in _LOCAL_DATA)}
    return {f"--{k.replace('_', '-')}": str(v) for k, v in flat.items() if k not in local}


def _digest(dataset: SegmentationDataset) -> str:
    names = "\n".join([*dataset.label_space.names, *(dataset.file_name(i) for i in range(len(dataset)))])
    return f"{len(dataset)} images of {dataset.name} ({hashlib.sha256(names.encode()).hexdigest()[:8]})"
