"""Checkpoints: one atomic safetensors file each, rotated; a damaged newest one falls back to the one before.

The file's header carries the step and the run's facts as JSON, so weights and facts cannot come apart.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from iccld.documents import Range, build, parse_json, reason
from iccld.models.storage import atomic_safetensors, check_header

_PATTERN = "step-*.safetensors"
_HEADER = "iccld"


@dataclass
class Checkpoint:
    """The state of a run after ``step`` steps.

    Attributes:
        step: steps done.
        tensors: flat names → tensors of all networks and optimizers.
        facts: plain values that belong to the state.
    """

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Header:
    step: Annotated[int, Range(0, 10**12)]
    facts: Mapping[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Writes a checkpoint atomically, then removes all but the newest ``keep``.

    Raises:
        InputError: the disk is full or the folder cannot be written; older checkpoints stay.
    """
    # One entry: safetensors writes several in random order, and equal runs would differ in their bytes.
    header = {_HEADER: json.dumps({"step": checkpoint.step, "facts": checkpoint.facts})}
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in checkpoint.tensors.items()}
    path = folder / f"step-{checkpoint.step:08d}.safetensors"
    atomic_safetensors(path, lambda temporary: save_file(tensors, temporary, metadata=header))
    for old in sorted(folder.glob(_PATTERN))[: -max(1, keep)]:
        old.unlink()
    return path


def load_newest(folder: Path) -> Checkpoint | None:
    """Reads the newest checkpoint that is whole; warns on stderr of every damaged one it passes over."""
    for path in sorted(folder.glob(_PATTERN), reverse=True):
        try:
            return _load(path)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            print(
                f"warning: {path}: damaged checkpoint ({reason(error, path)}); trying the one before it",
                file=sys.stderr,
            )
    return None


def _load(path: Path) -> Checkpoint:
    check_header(path)
    with safe_open(path, framework="pt") as handle:
        content = parse_json((handle.metadata() or {})[_HEADER], str(path), longest_text=1_000_000)
        tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 - not a mapping
    header = build(_Header, content, str(path))
    return Checkpoint(header.step, tensors, dict(header.facts))


def pack_module(name: str, module: nn.Module) -> dict[str, Tensor]:
    """Flat tensors of a network: parameters and buffers."""
    return {f"{name}/{key}": value for key, value in module.state_dict().items()}


def unpack_module(name: str, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Loads what ``pack_module`` gave, strictly."""
    prefix = f"{name}/"
    module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})


def pack_optimizer(name: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Flat tensors of an optimizer's state; its settings come from the configuration again."""
    state = optimizer.state_dict()["state"]
    return {f"{name}/{index}/{key}": value for index, entry in state.items() for key, value in entry.items()}


def unpack_optimizer(name: str, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Loads what ``pack_optimizer`` gave."""
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(f"{name}/"):
            _, index, item = key.rsplit("/", 2)
            entries.setdefault(int(index), {})[item] = value
    state = optimizer.state_dict()
    state["state"] = entries
    optimizer.load_state_dict(state)
