"""Inference with exported models: runs their graphs on ONNX Runtime or OpenVINO, without the network's code."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from iccld.documents import build, parse_json
from iccld.errors import InputError, how_to_install
from iccld.escaping import visible
from iccld.inference.graph_files import read_onnx, read_openvino
from iccld.inference.runtimes import import_onnxruntime, import_openvino
from iccld.labels import LabelSpace
from iccld.models.predicting import Predicting
from iccld.models.prediction import Maps, Prediction, check_scaled, predict_windows
from iccld.models.settings import Draws, InputHeight, PredictSettings, Steps, check_memory
from iccld.resizing import scaled_width
from iccld.threads import use_threads

if TYPE_CHECKING:
    import openvino

Format = Literal["onnx", "openvino"]
Precision = Literal["fp32", "bf16", "int8"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "openvino": ".xml"}
REFUSED_SUFFIXES = (".pt2",)
"""Extensions of refused files. ``torch.export.load`` would unpickle such files, and unpickling can run code."""
SMALLEST = 33
"""Minimum height and width of images in pixels. ICCLD pads smaller images to 64 pixels. An exported graph would pad
smaller images to 32 pixels only, and the predictions would differ."""

Engine = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""Function that runs a graph on images (uint8, b h w 3). The result maps names to arrays. The names include ``labels``,
``probabilities`` and, if the graph has several draws, ``mutual_information``."""


@dataclass(frozen=True)
class Facts:
    """The settings stored in an exported file. If ``input_height`` is 0, images are not scaled."""

    label_space: LabelSpace
    steps: Steps
    draws: Draws
    input_height: InputHeight
    precision: Precision


class ExportedSegmenter(Predicting):
    """A model loaded from a file that ``iccld.inference.export.export_model`` wrote.

    Images must have at least 33×33 pixels. Steps, draws, input height and precision are those of the export. Seeds have
    no effect. Sliding windows require a graph that does not scale images.
    """

    def __init__(self, path: Path, engine: Engine, facts: Facts) -> None:
        self.path, self._engine = path, engine
        self.label_space = facts.label_space
        self.steps, self.draws, self.input_height = facts.steps, facts.draws, facts.input_height
        self.precision = facts.precision

    def check_settings(self, settings: PredictSettings) -> None:
        """Raises ``InputError`` if settings differ from those of the export, or if the window is not supported."""
        for name in ("steps", "draws", "input_height", "precision"):
            asked, own = getattr(settings, name), getattr(self, name)
            if asked not in (None, "auto", own):
                raise InputError(
                    f"{self.path}: was exported with {name.replace('_', ' ')} {own}, not {asked}; leave it out, or "
                    f"export again with --{name.replace('_', '-')} {asked}"
                )
        window = settings.window
        if window is not None and self.input_height:
            problem = f"scales images to {self.input_height} rows, so a window would be scaled too"
            raise InputError(f"{self.path}: {problem}; export again with --input-height 0 to use windows")
        if window is not None and min(window) < SMALLEST:
            raise InputError(f"window is {window[0]}×{window[1]}; give at least {SMALLEST}×{SMALLEST} pixels")

    def _predict(self, batch: Float[Tensor, "b 3 h w"], settings: PredictSettings) -> Prediction:
        self.check_settings(settings)
        size = (batch.shape[-2], batch.shape[-1])
        self._check_size(*size)
        check_memory(len(batch), size, len(self.label_space))
        if settings.window is None:
            return self._run(batch)

        def predict(tile: Tensor) -> Maps:
            answer = self._run(tile)
            information = answer.mutual_information[:, None]
            return torch.from_numpy(answer.probabilities), torch.from_numpy(information)

        maps = predict_windows(predict, batch, settings.window, settings.overlap)
        probabilities, information = (m.numpy() for m in maps)
        return Prediction(probabilities.argmax(axis=1).astype(np.uint8), probabilities, information[:, 0])

    def _check_size(self, height: int, width: int) -> None:
        seen, note = (height, width), ""
        if self.input_height:
            seen = (self.input_height, scaled_width(height, width, self.input_height))
            note = f" ({seen[1]}×{seen[0]} as the model sees it)"
        if min(height, width, seen[1]) < SMALLEST:
            needed = f"exported models need {SMALLEST}×{SMALLEST} at least"
            raise InputError(f"an image has {width}×{height} pixels{note}; {needed}")
        check_scaled((height, width), seen)

    def _run(self, batch: Tensor) -> Prediction:
        pixels = (batch * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        count, height, width = pixels.shape[:3]
        try:
            answers = self._engine(np.ascontiguousarray(pixels.numpy()))
            labels, probabilities = answers["labels"], answers["probabilities"]
        except Exception as error:  # ONNX Runtime and OpenVINO raise different types of errors
            what = f"fails on images of {width}×{height} pixels"
            raise InputError(f"{self.path}: {what} ({_said(error)})") from error
        right = (count, len(self.label_space), height, width)
        if labels.shape != (count, height, width) or probabilities.shape != right:
            answer = f"answers with labels of {labels.shape} and probabilities of {probabilities.shape}"
            problem = "which fit neither the image nor its classes"
            raise InputError(f"{self.path}: {answer}, {problem}; export it again")
        # With one draw, the graph does not return the mutual information, because it is zero.
        information = answers.get("mutual_information", np.zeros(labels.shape, np.float32))
        return Prediction(*cast(Any, (labels, probabilities, information)))


def load_exported(model: str, *, device: str = "auto", threads: int = 0) -> ExportedSegmenter:
    """Opens an exported file, which may come from an untrusted source. No code except the checked graph is executed.

    The file has the extension ``.onnx`` or ``.xml`` (OpenVINO). ``device`` is ``auto``, ``cpu`` or, for an ONNX file,
    ``cuda``. The device ``cuda`` requires ONNX Runtime with CUDA support. ``threads`` is the number of CPU threads. If
    ``threads`` is 0, the fastest number is found by a trial, once per process.

    Raises ``InputError`` if the file does not exist, is damaged, or is not an exported ICCLD model. It is also raised
    if the runtime is not installed or the device is not available.
    """
    path = Path(model)
    opener = {".onnx": _open_onnx, ".xml": _open_openvino}.get(path.suffix)
    if opener is None:
        raise InputError(
            f"{path}: files of torch.export hold pickles, which run code, and are not read; "
            "export to onnx or openvino, or give the folder of the model itself"
        )
    if not path.is_file():
        raise InputError(f"{path}: no such file; write it with: iccld export MODEL --out {path}")
    try:
        threads = use_threads(threads, "cpu" if device == "auto" else device)
        return ExportedSegmenter(path, *opener(path, device, threads))
    except ImportError as error:
        extra = "onnx" if path.suffix == ".onnx" else "openvino"
        raise InputError(f"{path}: needs {error.name}; {how_to_install(extra)}") from error
    except (InputError, MemoryError):
        raise
    except Exception as error:  # the runtimes raise different types of errors; the remedy is the same
        what = f"damaged, or not of this runtime ({_said(error)})"
        raise InputError(f"{path}: {what}; export it again") from error


def open_core() -> openvino.Core:
    """Returns an OpenVINO core with its CPU plugin loaded.

    The plugin detects the processor's instruction sets itself, but its copy of oneDNN obeys the environment variable
    ``ONEDNN_MAX_CPU_ISA``. If the variable excludes a detected instruction set, the plugin crashes (2026.4). The plugin
    reads the variable only once, when it is loaded. Therefore, the variable is hidden during loading.
    """
    names = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        core = import_openvino().Core()
        core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return core
    finally:
        os.environ.update(hidden)


def _read_facts(path: Path, text: str) -> Facts:
    stored = parse_json(text, str(path), remedy="export it again") if text else {}
    if not isinstance(stored, dict) or stored.get("format") != "iccld-export":
        raise InputError(f"{path}: is no exported ICCLD model; write one with: iccld export MODEL")
    return build(Facts, stored, f"{path}: its metadata (export it again)", others=True)


def _open_onnx(path: Path, device: str, threads: int) -> tuple[Engine, Facts]:
    onnxruntime = import_onnxruntime()
    # Only these providers are used, because other providers can compute in another precision.
    known = {"cuda": ("CUDAExecutionProvider", {"use_tf32": "0"}), "cpu": ("CPUExecutionProvider", {})}
    available = onnxruntime.get_available_providers()
    wanted = [provider for name, provider in known.items() if device in ("auto", name)]
    providers = [provider for provider in wanted if provider[0] in available]
    if not providers:
        has = f"ONNX Runtime has {', '.join(available)}"
        raise InputError(f"device {device!r}: cannot be used here ({has}); give auto or cpu")
    data, text = read_onnx(path)
    facts = _read_facts(path, text)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # only fatal messages; errors are raised as exceptions
    options.intra_op_num_threads = threads
    # Without spinning, idle threads release their cores, as torch's threads do (see iccld.threads).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(data, options, providers=providers)
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"images": images}), strict=True)), facts


def _open_openvino(path: Path, device: str, threads: int) -> tuple[Engine, Facts]:
    core = open_core()
    if device not in ("auto", "cpu"):
        raise InputError(f"device {device!r}: OpenVINO models are run on the CPU here; give auto or cpu")
    model, text = read_openvino(path, core)
    facts = _read_facts(path, text)
    settings: dict[str, Any] = {
        # In an int8 graph, the hint applies to the nodes that are not quantized.
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16", "int8": "f32"}[facts.precision],
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # threads can change cores if other processes need the same cores
    }
    compiled = core.compile_model(model, "CPU", settings)
    names = [output.get_any_name() for output in compiled.outputs]
    return lambda images: dict(zip(names, map(np.array, compiled(images).to_tuple()), strict=True)), facts


def _said(error: Exception) -> str:
    return visible(" ".join(str(error).split()) or type(error).__name__)[:200]
