"""Model files in folders and on the hub. Weights are stored as safetensors and everything else as JSON."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Self, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from iccld.documents import Range, build, read_json
from iccld.errors import InputError, first_line
from iccld.escaping import shortened
from iccld.files import open_regular, write_atomic, write_json
from iccld.labels import LabelSpace
from iccld.mirrors import local_copy
from iccld.models.hub import fetch, push_files, split_id
from iccld.plugins import OutsideCodeError

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
PROCESSOR = "preprocessor_config.json"
"""File that tells ``transformers`` which image processor to use (see ``iccld.hf``)."""
FILES = (WEIGHTS, CONFIG, PROCESSOR)
BUILT_IN = ("streets",)
"""Names of the models that are part of this package. Their files are in the folder ``weights``."""
_BUILT_IN_FOLDER = Path(__file__).parent.parent / "weights"
_FORMAT = "iccld"
_FLOATS = ("F64", "F32", "F16", "BF16")
_MOST_HEADER = 16_000_000
_MOST_BUFFERS = 1_000_000_000
"""Maximum size in bytes of the buffers that a network computes itself, such as Swin's index of relative positions."""

Network = TypeVar("Network", bound=nn.Module)


def atomic_safetensors(path: str | Path, save: Callable[[Path], object]) -> Path:
    """Writes a safetensors file atomically. ``save`` writes the file to a temporary path.

    Raises ``RunFailedError`` if the disk is full or broken, and ``InputError`` if the folder cannot be written.
    """

    def save_or_explain(temporary: Path) -> None:
        try:
            save(temporary)
        except SafetensorError as error:  # safetensors gives the error number only in its message
            code = errno.ENOSPC if "os error 28" in str(error) or "No space" in str(error) else errno.EIO
            raise OSError(code, str(error)) from error

    return write_atomic(path, save_or_explain)


def write_processor(folder: Path) -> None:
    """Writes the file from which ``transformers`` knows the image processor."""
    write_json(folder / PROCESSOR, {"image_processor_type": "ICCLDImageProcessor"})


def find_model(source: str | Path) -> Path:
    """Returns the folder of a model. Downloads the model if ``source`` is a hub id (``user/model[@revision]``).

    A name in ``BUILT_IN`` is the model of this package, unless the current folder contains a model with this name.
    """
    folder = local_copy(source)
    if str(source) in BUILT_IN and not (folder / CONFIG).is_file():
        return _BUILT_IN_FOLDER / str(source)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise InputError(f"{source}: is a file; give the folder that holds {CONFIG} and {WEIGHTS}")
    found = split_id(str(source))
    if found is None:
        remedy = f"give a finished run's folder, a hub id like user/model, or {', '.join(BUILT_IN)}"
        raise InputError(f"{source}: no such folder; {remedy}")
    return fetch(*found, [WEIGHTS, CONFIG])


def read_config(folder: Path) -> dict[str, Any]:
    """Returns the content of ``config.json``. Raises ``InputError`` if the folder contains no ICCLD model."""
    path, remedy = folder / CONFIG, "give the folder of a finished run"
    if not path.exists():
        raise InputError(f"{folder}: holds no {CONFIG}, so it is no model; {remedy}")
    config = read_json(path, remedy="copy or train the model again")
    if not isinstance(config, dict) or config.get("format") != _FORMAT:
        raise InputError(f"{path}: is not the configuration of an ICCLD model; {remedy}")
    return config


def _load_network(make: Callable[[], Network], folder: Path, *, num_classes: int) -> Network:
    """Builds a network and loads its weights. Raises ``InputError`` if the network and the weights do not match.

    The network is first built on the device ``meta``, where tensors have no memory, and compared with the header of the
    weights file. Thus, the error for a mismatch is raised before memory is allocated.
    """
    path = folder / WEIGHTS
    stored = _read_header(path)
    remedy = f"use the {CONFIG} that was saved with these weights"
    _, shape = stored.get("label_decoder.head.weight", ("", (num_classes,)))
    if shape[:1] != (num_classes,):
        known = shape[0] if shape else 0
        counts = f"has weights for {known} classes but {CONFIG} lists {num_classes}"
        raise InputError(f"{path}: {counts}; {remedy}")
    own = _sketch(make, folder, len(stored)).state_dict()
    both = own.keys() & stored.keys()
    of_other_kind = {k for k in both if own[k].is_floating_point() != (stored[k][0] in _FLOATS)}
    mismatches = {
        "lacks": own.keys() - stored.keys(),
        "has an unknown": stored.keys() - own.keys(),
        "has another shape of": {k for k in both if tuple(own[k].shape) != stored[k][1]},
        "has numbers of another kind in": of_other_kind,
    }
    for what, names in mismatches.items():
        if names:
            raise InputError(f"{path}: {what} {min(names)} ({len(names)} such); {remedy}")
    model = make()
    with _explained(path):
        model.load_state_dict(load_file(path))
    return model


def _sketch(make: Callable[[], Network], folder: Path, num_tensors: int) -> Network:
    """Builds a network without memory for its weights, to compare the network with the weights file.

    Raises ``InputError`` if the network cannot be built, has far more parameters than the file has tensors, or has very
    large buffers.
    """
    path, left, thread = folder / CONFIG, 2 * num_tensors + 100, threading.get_ident()

    def count(module: nn.Module, name: str, parameter: object) -> None:
        nonlocal left
        left -= threading.get_ident() == thread
        if left < 0:
            raise InputError(f"{CONFIG} describes more than the {num_tensors} weights that {WEIGHTS} has")

    counting = nn.modules.module.register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            sketch = make()
        size = sum(b.numel() * b.element_size() for b in sketch.buffers())
        if size > _MOST_BUFFERS + (folder / WEIGHTS).stat().st_size:
            raise InputError(f"its tables would take {size / 1e9:.3g} GB")
    except OutsideCodeError:
        raise
    except Exception as error:  # inconsistent sizes raise exceptions of many types
        problem = f"describes no network that fits its weights ({first_line(error)})"
        raise InputError(f"{path}: {problem}; use the {CONFIG} that was saved with them") from error
    finally:
        counting.remove()
    return sketch


def _read_header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Returns dtype (``F32``, ``BF16``, ``I64`` …) and shape by tensor name from the header of a safetensors file."""
    with _explained(path):
        check_header(path)
        with safe_open(path, framework="pt") as handle:
            slices = {key: handle.get_slice(key) for key in handle.keys()}  # noqa: SIM118 - not a mapping
            return {key: (part.get_dtype(), tuple(part.get_shape())) for key, part in slices.items()}


def check_header(path: Path) -> None:
    """Raises ``SafetensorError`` if a file's header is too large, and ``InputError`` if the file cannot be read."""
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
        problem = f"truncated or not a safetensors file ({first_line(error)})"
        raise InputError(f"{path}: {problem}; copy or train it again") from error


@dataclass(frozen=True)
class ModelSpec:
    """Arguments of ``ICCLD`` that are stored in ``config.json``, so that the network can be built again."""

    backbone: str = "compact"
    latent_channels: Annotated[int, Range(1, 1024)] = 16
    width: Annotated[int, Range(1, 8192)] = 96
    context_links: bool = True
    detail_links: bool = True
    diffusion: bool = True
    reencoding: bool = True
    light_steps: bool = False
    input_height: Annotated[int, Range(0, 16384)] = 0
    backbone_config: dict[str, Any] | None = None


def read_model(source: str | Path) -> tuple[Path, LabelSpace, ModelSpec, dict[str, Any]]:
    """Reads the description of a stored model: folder, classes, specification, and further entries of ``config.json``.

    Raises ``InputError`` as ``Pretrained.from_pretrained`` does. The weights are not read.
    """
    folder = find_model(source)
    config = read_config(folder)
    try:
        space, stored = LabelSpace.from_dict(config.get("label_space")), config.get("model")
        if isinstance(stored, dict):
            stored = {"reencoding": False, **stored}  # missing in older models
        spec = build(ModelSpec, stored, "model")
    except InputError as error:
        problem = f"{folder / CONFIG}: incomplete or of a newer version ({error})"
        raise InputError(f"{problem}; train or copy the model again") from error
    if spec.backbone.startswith("auto:") and spec.backbone_config is None:
        problem = f"{folder / CONFIG}: has no configuration of its backbone {shortened(spec.backbone)}"
        remedy = "save the model again where that backbone is known"
        raise InputError(f"{problem}, which is not fetched; {remedy}")
    own = ("format", "model_type", "label_space", "model")
    return folder, space, spec, {name: value for name, value in config.items() if name not in own}


class Pretrained(nn.Module):
    """Base class of networks that are stored as ``model.safetensors`` and ``config.json``."""

    label_space: LabelSpace
    """Classes and colors of the outputs."""
    spec: ModelSpec
    """Specification from which the network is built."""
    record: Mapping[str, Any] = MappingProxyType({})
    """Further entries of the ``config.json`` from which the model was loaded, such as the training settings."""

    def save_pretrained(self, folder: str | Path, *, extra: Mapping[str, Any] | None = None) -> None:
        """Writes the files of the model to a folder, each atomically.

        The files are ``model.safetensors``, ``config.json`` (which contains classes and colors) and
        ``preprocessor_config.json`` (for ``transformers``).

        A missing folder is created. ``extra`` are further entries for ``config.json``, such as the training settings.
        """
        weights = {key: value.detach().cpu().contiguous() for key, value in self.state_dict().items()}
        atomic_safetensors(Path(folder) / WEIGHTS, lambda temporary: save_file(weights, temporary))
        spec = {key: value for key, value in asdict(self.spec).items() if value is not None}
        config = {"label_space": self.label_space.to_dict(), "model": spec, **self.record, **(extra or {})}
        write_json(Path(folder) / CONFIG, {"format": _FORMAT, "model_type": _FORMAT, **config})
        write_processor(Path(folder))

    @classmethod
    def from_pretrained(cls, source: str | Path) -> Self:
        """Loads a model and returns it in evaluation mode.

        Args:
            source: Folder that ``save_pretrained`` wrote, name of a built-in model (``streets``), or hub id
                ``user/model`` or ``user/model@revision``. The revision is a branch, tag or commit.

        Raises:
            InputError: The model does not exist, a file is truncated, or the weights do not fit the configuration.
        """
        folder, space, spec, record = read_model(source)
        model = _load_network(lambda: cls(space, **vars(spec)), folder, num_classes=len(space))
        model.record = record
        return model.eval()

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Uploads the model without a model card to a Hugging Face repository. Returns the URL of the repository."""

        def write(folder: Path) -> list[str]:
            self.save_pretrained(folder)
            return list(FILES)

        return push_files(write, repo_id, private=private, token=token)[0]
