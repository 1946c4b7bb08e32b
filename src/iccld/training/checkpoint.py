"""Checkpoints as safetensors files, which are written atomically. Only the newest checkpoints are kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from iccld.documents import Range, build, parse_json, reason
from iccld.models.storage import atomic_safetensors, check_header
from iccld.outputs import CHECKPOINT_PATTERN

_HEADER = "iccld"
Part = nn.Module | torch.optim.Optimizer


class Checkpoint(NamedTuple):
    """State of a run after ``step`` steps.

    ``tensors`` are the tensors of networks and optimizers, named by ``pack``, and the metrics that are not yet logged.
    """

    step: int
    tensors: dict[str, Tensor]


@dataclass(frozen=True)
class _Header:
    step: Annotated[int, Range(0, 10**12)]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Writes a checkpoint atomically, then removes all checkpoints but the newest ``keep``.

    Raises ``RunFailedError`` if the disk is full, and ``InputError`` if the folder is not writable. In both cases, no
    checkpoint is removed.
    """
    # All metadata are in one entry, because safetensors writes several entries in random order. Checkpoints of equal
    # runs would then differ in their bytes.
    header = {_HEADER: json.dumps({"step": checkpoint.step})}
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in checkpoint.tensors.items()}
    path = folder / f"step-{checkpoint.step:08d}.safetensors"
    atomic_safetensors(path, lambda temporary: save_file(tensors, temporary, metadata=header))
    for old in sorted(folder.glob(CHECKPOINT_PATTERN))[: -max(1, keep)]:
        old.unlink()
    return path


def load_newest(folder: Path) -> Checkpoint | None:
    """Returns the newest checkpoint that is not damaged, or ``None`` if there is no such checkpoint.

    Damaged checkpoints are skipped with a warning on stderr.
    """
    for path in sorted(folder.glob(CHECKPOINT_PATTERN), reverse=True):
        try:
            check_header(path)
            with safe_open(path, framework="pt") as handle:
                content = parse_json((handle.metadata() or {})[_HEADER], str(path), longest_text=1_000_000)
                tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 - not a mapping
            return Checkpoint(build(_Header, content, str(path), others=True).step, tensors)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            message = f"damaged checkpoint ({reason(error, path)}); trying the one before it"
            print(f"warning: {path}: {message}", file=sys.stderr)
    return None


def pack(parts: Mapping[str, Part]) -> dict[str, Tensor]:
    """Returns the tensors of networks (parameters, buffers) and optimizers (state) under names like ``student/…``."""
    packed: dict[str, Tensor] = {}
    for name, part in parts.items():
        state = part.state_dict()
        if not isinstance(part, nn.Module):
            entries = state["state"].items()
            state = {f"{index}/{key}": value for index, entry in entries for key, value in entry.items()}
        packed |= {f"{name}/{key}": value for key, value in state.items()}
    return packed


def unpack(parts: Mapping[str, Part], tensors: Mapping[str, Tensor]) -> None:
    """Loads tensors with names from ``pack`` into networks and optimizers.

    Raises ``RuntimeError``, ``ValueError`` or ``KeyError`` if tensors or names do not fit.
    """
    for name, part in parts.items():
        own = {k.removeprefix(f"{name}/"): v for k, v in tensors.items() if k.startswith(f"{name}/")}
        if isinstance(part, nn.Module):
            part.load_state_dict(own)
            continue
        entries: dict[int, dict[str, Tensor]] = {}
        for key, value in own.items():
            index, _, item = key.partition("/")
            entries.setdefault(int(index), {})[item] = value
        part.load_state_dict({**part.state_dict(), "state": entries})
