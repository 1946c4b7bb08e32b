"""Checkpoints: one atomic safetensors file each, rotated; a damaged newest one falls back to the one before."""

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

PATTERN = "step-*.safetensors"
_HEADER = "iccld"


class Checkpoint(NamedTuple):
    """The state of a run after ``step`` steps: tensors of all networks and optimizers by flat names."""

    step: int
    tensors: dict[str, Tensor]


@dataclass(frozen=True)
class _Header:
    """The JSON in the header of the file."""

    step: Annotated[int, Range(0, 10**12)]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Writes a checkpoint atomically, then removes all but the newest ``keep``.

    Raises:
        InputError: the disk is full or the folder cannot be written; older checkpoints stay.
    """
    # One entry: safetensors writes several in random order, and equal runs would differ in their bytes.
    header = {_HEADER: json.dumps({"step": checkpoint.step})}
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in checkpoint.tensors.items()}
    path = folder / f"step-{checkpoint.step:08d}.safetensors"
    atomic_safetensors(path, lambda temporary: save_file(tensors, temporary, metadata=header))
    for old in sorted(folder.glob(PATTERN))[: -max(1, keep)]:
        old.unlink()
    return path


def load_newest(folder: Path) -> Checkpoint | None:
    """Reads the newest checkpoint that is whole; warns on stderr of every damaged one it passes over."""
    for path in sorted(folder.glob(PATTERN), reverse=True):
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


Part = nn.Module | torch.optim.Optimizer


def pack(parts: Mapping[str, Part]) -> dict[str, Tensor]:
    """Gives flat tensors of networks (parameters and buffers) and optimizers (their state, without settings)."""
    packed: dict[str, Tensor] = {}
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            packed |= {f"{name}/{key}": value for key, value in part.state_dict().items()}
        else:
            state = part.state_dict()["state"]
            packed |= {
                f"{name}/{i}/{key}": value for i, entry in state.items() for key, value in entry.items()
            }
    return packed


def unpack(parts: Mapping[str, Part], tensors: Mapping[str, Tensor]) -> None:
    """Loads what ``pack`` gave, strictly.

    Raises:
        RuntimeError, ValueError, KeyError: the tensors are not those of these parts.
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
