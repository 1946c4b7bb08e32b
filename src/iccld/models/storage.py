"""Model files in folders and on the hub: safetensors for weights and JSON for everything else, but no pickle."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from iccld.documents import Range, build, read_json
from iccld.errors import InputError, first_line
from iccld.escaping import shortened
from iccld.files import open_regular, write_atomic, write_json
from iccld.labels import LabelSpace
from iccld.models.hub import fetch, push_files, split_id

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
PROCESSOR = "preprocessor_config.json"
"""File from which ``transformers`` knows the image processor (see ``iccld.hf``)."""
FILES = (WEIGHTS, CONFIG, PROCESSOR)
_FORMAT = "iccld"
_MOST_HEADER = 16_000_000
_MOST_BUFFERS = 1_000_000_000
"""Maximum total size in bytes of the buffers that a network computes itself, such as Swin's index of relative
positions. Such buffers are not loaded from the weights file."""

Network = TypeVar("Network", bound=nn.Module)


def atomic_safetensors(path: str | Path, save: Callable[[Path], object]) -> Path:
    """Writes a safetensors file atomically.

    ``save`` is called with a temporary path, and writes the file to this path.

    Raises:
        InputError: The disk is full or the folder is not writable.
    """

    def save_or_explain(temporary: Path) -> None:
        try:
            save(temporary)
        except SafetensorError as error:  # safetensors gives the error number only in its message
            code = errno.ENOSPC if "os error 28" in str(error) or "No space" in str(error) else errno.EIO
            raise OSError(code, str(error)) from error

    return write_atomic(path, save_or_explain)


def save_model(folder: str | Path, weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Writes the files of a model to a folder, each atomically."""
    plain = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    atomic_safetensors(Path(folder) / WEIGHTS, lambda temporary: save_file(plain, temporary))
    write_json(Path(folder) / CONFIG, {"format": _FORMAT, "model_type": _FORMAT, **config})
    write_json(Path(folder) / PROCESSOR, {"image_processor_type": "ICCLDImageProcessor"})


def find_model(source: str | Path) -> Path:
    """Returns the folder of a model. If ``source`` is a hub id (``user/model[@revision]``), downloads the model first.

    Raises:
        InputError: Neither the folder nor the hub model exists.
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
    """Returns the content of a model's ``config.json``.

    Raises:
        InputError: The file is missing, broken or not the configuration of an ICCLD model.
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


def _load_network(make: Callable[[], Network], folder: Path, *, num_classes: int) -> Network:
    """Builds a network and loads its weights strictly.

    The network is first built on the device ``meta``, where tensors have no memory, and compared with the header of the
    weights file. Thus, if the configuration does not match the weights, the error is raised before memory is allocated.

    Raises:
        InputError: The weights do not match the network. The message names the first mismatch. A wrong number of
            classes has a message of its own.
    """
    path = folder / WEIGHTS
    stored = _read_header(path)
    remedy = f"use the {CONFIG} that was saved with these weights"
    _, shape = stored.get("label_decoder.head.weight", ("", (num_classes,)))
    if shape[:1] != (num_classes,):
        known = shape[0] if shape else 0
        raise InputError(
            f"{path}: has weights for {known} classes but {CONFIG} lists {num_classes}; {remedy}"
        )
    own = _sketch(make, folder, len(stored)).state_dict()
    both = own.keys() & stored.keys()
    for what, names in (
        ("lacks", own.keys() - stored.keys()),
        ("has an unknown", stored.keys() - own.keys()),
        ("has another shape of", {k for k in both if tuple(own[k].shape) != stored[k][1]}),
        (
            "has numbers of another kind in",
            {k for k in both if own[k].is_floating_point() != _is_float(stored[k])},
        ),
    ):
        if names:
            raise InputError(f"{path}: {what} {min(names)} ({len(names)} such); {remedy}")
    model = make()
    with _explained(path):
        model.load_state_dict(load_file(path))
    return model


def _sketch(make: Callable[[], Network], folder: Path, num_tensors: int) -> Network:
    """Builds a network on the device ``meta``, without memory for its weights.

    Raises:
        InputError: The network has far more parameters than the weights file has tensors, or it cannot be built.
    """
    left, thread = 2 * num_tensors + 100, threading.get_ident()

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
    except Exception as error:  # inconsistent sizes raise exceptions of many types
        raise InputError(
            f"{folder / CONFIG}: describes no network that fits its weights ({first_line(error)}); "
            f"use the {CONFIG} that was saved with them"
        ) from error
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


def _is_float(stored: tuple[str, tuple[int, ...]]) -> bool:
    return stored[0] in ("F64", "F32", "F16", "BF16")


def check_header(path: Path) -> None:
    """Checks that a path is a regular file whose safetensors header does not exceed the size limit.

    Raises:
        InputError: The path is not a regular file.
        SafetensorError: The header is too large.
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


@dataclass(frozen=True)
class ModelSpec:
    """Arguments of ``ICCLD`` that are stored in ``config.json``, from which the network can be built again."""

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


class Pretrained(nn.Module):
    """Base class of networks that are stored as ``model.safetensors`` and ``config.json``.

    Attributes:
        label_space: Classes and colors of the outputs.
        spec: Specification from which the network is built.
    """

    label_space: LabelSpace
    spec: ModelSpec

    def save_pretrained(self, folder: str | Path, *, extra: Mapping[str, Any] | None = None) -> None:
        """Writes the files of the model to a folder, each atomically.

        These are ``model.safetensors``, ``config.json`` (which contains classes and colors) and
        ``preprocessor_config.json`` (for ``transformers``).

        Args:
            folder: Folder for the files. It is created if missing.
            extra: Further entries for ``config.json``, such as the training settings.
        """
        spec = {key: value for key, value in asdict(self.spec).items() if value is not None}
        config = {"label_space": self.label_space.to_dict(), "model": spec, **(extra or {})}
        save_model(folder, self.state_dict(), config)

    @classmethod
    def from_pretrained(cls, source: str | Path) -> Self:
        """Loads a model from a folder that ``save_pretrained`` wrote, or from a hub id.

        Args:
            source: Folder, ``user/model``, or ``user/model@revision`` (a branch, tag or commit).

        Returns:
            The model in evaluation mode.

        Raises:
            InputError: The folder or id does not exist, a file is truncated, or the weights do not fit the
                configuration.
        """
        folder = find_model(source)
        config = read_config(folder)
        try:
            space, stored = LabelSpace.from_dict(config.get("label_space")), config.get("model")
            if isinstance(stored, dict):
                stored = {"reencoding": False, **stored}  # missing in older models
            spec = build(ModelSpec, stored, "model")
        except InputError as error:
            raise InputError(
                f"{folder / CONFIG}: incomplete or of a newer version ({error}); train or copy the model again"
            ) from error
        if spec.backbone.startswith("auto:") and spec.backbone_config is None:
            raise InputError(
                f"{folder / CONFIG}: has no configuration of its backbone {shortened(spec.backbone)}, which is "
                "not fetched; save the model again where that backbone is known"
            )
        model = _load_network(lambda: cls(space, **vars(spec)), folder, num_classes=len(space))
        return model.eval()

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Uploads the model to a Hugging Face repository and returns the URL of the repository.

        ``iccld push`` uploads a run's folder in the same way, and also writes a model card.

        Raises:
            InputError: Nothing was uploaded. The message gives the reason.
        """

        def write(folder: Path) -> list[str]:
            self.save_pretrained(folder)
            return list(FILES)

        return push_files(write, repo_id, private=private, token=token)[0]
