"""Models on disk: safetensors for weights, JSON for everything else, never pickle."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from iccld.errors import InputError
from iccld.files import write_atomic, write_json
from iccld.models.hub import fetch, split_id

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
_FORMAT = "iccld"


def atomic_safetensors(path: str | Path, save: Callable[[Path], object]) -> Path:
    """Writes a safetensors file atomically; ``save`` writes it to the path it is given.

    Raises:
        InputError: the disk is full or the folder cannot be written.
    """

    def save_or_explain(temporary: Path) -> None:
        try:
            save(temporary)
        except SafetensorError as error:  # safetensors hides the system's error number in its text
            code = errno.ENOSPC if "os error 28" in str(error) or "No space" in str(error) else errno.EIO
            raise OSError(code, str(error)) from error

    return write_atomic(path, save_or_explain)


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor]) -> Path:
    """Writes named tensors atomically as safetensors."""
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    return atomic_safetensors(path, lambda temporary: save_file(plain, temporary))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Reads safetensors.

    Raises:
        InputError: the file is missing, truncated or of another format.
    """
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; give a folder that a finished run wrote") from error
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: truncated or not a safetensors file ({error}); copy or train it again"
        ) from error


def save_model(folder: str | Path, weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Writes weights and configuration."""
    folder = Path(folder)
    save_tensors(folder / WEIGHTS, weights)
    write_json(folder / CONFIG, {"format": _FORMAT, **config})


def find_model(source: str | Path) -> Path:
    """Finds the folder of a model: a local one, or a download of a hub repository (``user/model[@revision]``).

    Raises:
        InputError: neither exists.
    """
    folder = Path(source)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise InputError(f"{source}: is a file; give the folder that holds {CONFIG} and {WEIGHTS}")
    found = split_id(str(source))
    if found is None:
        raise InputError(
            f"{source}: no such folder; give a finished run's folder or a hub id like user/model"
        )
    return fetch(*found, [WEIGHTS, CONFIG])


def read_config(folder: Path) -> dict[str, Any]:
    """Reads ``config.json``.

    Raises:
        InputError: missing, broken, or not of an ICCLD model.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise InputError(f"{folder}: holds no {CONFIG}, so it is no model; give the folder of a finished run")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not JSON ({error}); copy or train the model again") from error
    if not isinstance(config, dict) or config.get("format") != _FORMAT:
        raise InputError(
            f"{path}: is not the configuration of an ICCLD model; give the folder of a finished run"
        )
    return config


def not_a_model(folder: Path, error: Exception) -> InputError:
    """The message for a configuration that lacks something."""
    return InputError(
        f"{folder / CONFIG}: incomplete or of a newer version ({error}); train or copy the model again"
    )


def load_weights(model: nn.Module, folder: Path, *, num_classes: int) -> None:
    """Loads weights strictly.

    Raises:
        InputError: names the first thing that does not fit; a wrong number of classes is named as such.
    """
    path = folder / WEIGHTS
    weights = load_tensors(path)
    head = weights.get("label_decoder.head.weight")
    if head is not None and len(head) != num_classes:
        raise InputError(
            f"{path}: has weights for {len(head)} classes but {CONFIG} lists {num_classes}; "
            f"use the {CONFIG} that was saved with these weights"
        )
    own = model.state_dict()
    missing = sorted(own.keys() - weights.keys())
    unknown = sorted(weights.keys() - own.keys())
    differing = sorted(k for k in own.keys() & weights.keys() if own[k].shape != weights[k].shape)
    for what, names in (("lacks", missing), ("has an unknown", unknown), ("has another shape of", differing)):
        if names:
            raise InputError(
                f"{path}: {what} {names[0]} ({len(names)} such); use the {CONFIG} that was saved with these weights"
            )
    model.load_state_dict(weights)
