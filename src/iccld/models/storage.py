"""Models on disk: safetensors for weights, JSON for everything else, never pickle."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from iccld.documents import read_json
from iccld.errors import InputError, first_line
from iccld.files import open_regular, write_atomic, write_json
from iccld.models.hub import fetch, split_id

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
_FORMAT = "iccld"
_FLOATS = ("F64", "F32", "F16", "BF16")
_MOST_HEADER = 16_000_000
_MOST_BUFFERS = 1_000_000_000
"""Bytes of tables that are computed and not stored, such as Swin's positions in a window."""

Network = TypeVar("Network", bound=nn.Module)


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
    with _explained(path):
        check_header(path)
        return load_file(path)


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
    if not path.exists():
        raise InputError(f"{folder}: holds no {CONFIG}, so it is no model; give the folder of a finished run")
    config = read_json(path, remedy="copy or train the model again")
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


def load_network(build: Callable[[], Network], folder: Path, *, num_classes: int) -> Network:
    """Builds a network and loads its weights strictly.

    The network is first built without memory and compared with the header of the weights file, so that a
    configuration of sizes that these weights do not have takes neither memory nor time.

    Args:
        build: makes the network.
        folder: that holds the weights.
        num_classes: as ``config.json`` has it.

    Raises:
        InputError: names the first thing that does not fit; a wrong number of classes is named as such.
    """
    path = folder / WEIGHTS
    stored = read_header(path)
    head = stored.get("label_decoder.head.weight")
    if head is not None and head.shape[:1] != (num_classes,):
        raise InputError(
            f"{path}: has weights for {head.shape[0] if head.shape else 0} classes but {CONFIG} lists {num_classes}; "
            f"use the {CONFIG} that was saved with these weights"
        )
    sketch = _sketch(build, folder, len(stored))
    own = sketch.state_dict()
    missing = sorted(own.keys() - stored.keys())
    unknown = sorted(stored.keys() - own.keys())
    both = own.keys() & stored.keys()
    differing = sorted(k for k in both if tuple(own[k].shape) != stored[k].shape)
    other = sorted(k for k in both if own[k].is_floating_point() != (stored[k].dtype in _FLOATS))
    for what, names in (
        ("lacks", missing),
        ("has an unknown", unknown),
        ("has another shape of", differing),
        ("has numbers of another kind in", other),
    ):
        if names:
            raise InputError(
                f"{path}: {what} {names[0]} ({len(names)} such); use the {CONFIG} that was saved with these weights"
            )
    model = build()
    model.load_state_dict(load_tensors(path))
    return model


def _sketch(build: Callable[[], Network], folder: Path, num_tensors: int) -> Network:
    """Builds a network on the device ``meta``; stops as soon as it has many more parts than there are weights."""
    left, thread = 2 * num_tensors + 100, threading.get_ident()

    def count(module: nn.Module, name: str, parameter: object) -> None:
        nonlocal left
        left -= threading.get_ident() == thread
        if left < 0:
            raise InputError(f"{CONFIG} describes more than the {num_tensors} weights that {WEIGHTS} has")

    counting = nn.modules.module.register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            sketch = build()
        size = sum(b.numel() * b.element_size() for b in sketch.buffers())
        if size > _MOST_BUFFERS + (folder / WEIGHTS).stat().st_size:
            raise InputError(f"its tables would take {size / 1e9:.3g} GB")
    except Exception as error:  # sizes that do not go together fail in many ways
        raise InputError(
            f"{folder / CONFIG}: describes no network that fits its weights ({first_line(error)}); "
            f"use the {CONFIG} that was saved with them"
        ) from error
    finally:
        counting.remove()
    return sketch


@dataclass(frozen=True)
class StoredTensor:
    """What the header of a weights file says of a tensor.

    Attributes:
        dtype: as safetensors has it: ``F32``, ``BF16``, ``I64`` and others.
        shape: its sizes.
    """

    dtype: str
    shape: tuple[int, ...]


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Reads the names, types and shapes of a safetensors file, not the tensors.

    Raises:
        InputError: the file is missing, truncated or of another format.
    """
    with _explained(path):
        check_header(path)
        with safe_open(path, framework="pt") as handle:
            slices = {key: handle.get_slice(key) for key in handle.keys()}  # noqa: SIM118 - not a mapping
            return {
                key: StoredTensor(part.get_dtype(), tuple(part.get_shape())) for key, part in slices.items()
            }


def check_header(path: Path) -> None:
    """Refuses what is no regular file, and a header of more bytes than any of ours.

    Raises:
        InputError: no regular file.
        SafetensorError: such a header.
    """
    with open_regular(path) as handle:
        size = int.from_bytes(handle.read(8), "little")
    if size > _MOST_HEADER:
        raise SafetensorError(f"a header of {size} bytes")


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    if not path.exists():
        raise InputError(f"{path}: no such file; give a folder that a finished run wrote")
    try:
        yield
    except InputError:
        raise
    except (SafetensorError, OSError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path}: truncated or not a safetensors file ({first_line(error)}); copy or train it again"
        ) from error
