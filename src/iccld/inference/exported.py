"""Exported models in use: the same ``predict`` on ONNX Runtime or OpenVINO, without the network's code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from iccld.documents import Range, build, parse_json
from iccld.errors import InputError, how_to_install
from iccld.escaping import visible
from iccld.inference.graph_files import read_onnx, read_openvino
from iccld.inference.openvino_precision import Precision, open_core
from iccld.labels import LabelSpace
from iccld.models.images import Images, to_batch
from iccld.models.prediction import Maps, Prediction, check_scaled, predict_windows
from iccld.models.settings import (
    MOST_DRAWS,
    MOST_PIXELS_A_SIDE,
    MOST_STEPS,
    check_memory,
    check_settings,
)
from iccld.resizing import scaled_width
from iccld.threads import use_threads

Format = Literal["onnx", "openvino"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "openvino": ".xml"}
REFUSED_SUFFIXES = (".pt2",)
"""Endings of files that are known and not read: ``torch.export.load`` unpickles them."""
FACTS = "iccld"  # key of the facts in every format's metadata
SMALLEST = 33  # pixels a side: smaller images are padded by more than to the next multiple of 32

Outputs = Mapping[str, np.ndarray]
Engine = Callable[[np.ndarray], Outputs]
"""uint8 images b h w 3 → labels, probabilities and, of several draws, mutual information, by name."""


@dataclass(frozen=True)
class Facts:
    """What an exported file says of itself.

    Attributes:
        label_space: classes and colors.
        steps: K.
        draws: N.
        input_height: height in pixels that images are scaled to; 0 if they are taken as they are.
        precision: what the network computes in.
    """

    label_space: LabelSpace
    steps: Annotated[int, Range(1, MOST_STEPS)]
    draws: Annotated[int, Range(1, MOST_DRAWS)]
    input_height: Annotated[int, Range(0, MOST_PIXELS_A_SIDE)]
    precision: Precision


class ExportedSegmenter:
    """A model that ``iccld.inference.export.export_model`` wrote.

    Args:
        path: the file.
        engine: runs the graph.
        facts: from the file's metadata.
    """

    def __init__(self, path: Path, engine: Engine, facts: Facts) -> None:
        self.path, self._engine = path, engine
        self.label_space = facts.label_space
        self.steps, self.draws, self.input_height = facts.steps, facts.draws, facts.input_height
        self.precision = facts.precision

    def predict(
        self,
        images: Images,
        *,
        steps: int | None = None,
        draws: int | None = None,
        seed: int = 0,
        window: tuple[int, int] | None = None,
        overlap: float = 0.25,
        input_height: int | None = None,
        precision: str = "auto",
    ) -> Prediction:
        """Segments images of any size from 33×33 pixels on.

        Args:
            images: as ``iccld.ICCLD.predict`` takes them.
            steps: the graph's own, or None.
            draws: the graph's own, or None.
            seed: not used: the graph has its noise.
            window: height and width of a sliding window; only of a graph that does not scale its images.
            overlap: share of a window that the next one covers again.
            input_height: the graph's own, or None.
            precision: the graph's own, or auto.

        Raises:
            InputError: an array of another shape, type or range, a setting that the graph does not have, or an image
                that the runtime fails on.
        """
        check_settings(seed=seed, window=window, overlap=overlap)
        self.check_settings(
            steps=steps, draws=draws, window=window, input_height=input_height, precision=precision
        )
        batch, single = to_batch(images)
        self._check_size(batch.shape[-2], batch.shape[-1])
        check_memory(len(batch), (batch.shape[-2], batch.shape[-1]), len(self.label_space))
        if window is None:
            labels, probabilities, information = self._run(batch)
        else:
            maps = predict_windows(self._maps, batch, window, overlap)
            probabilities, information = (m.numpy() for m in maps)
            labels, information = probabilities.argmax(axis=1).astype(np.uint8), information[:, 0]
        prediction = Prediction(*cast(Any, (labels, probabilities, information)))
        return prediction.of_image(0) if single else prediction

    def check_settings(
        self,
        *,
        steps: int | None = None,
        draws: int | None = None,
        window: tuple[int, int] | None = None,
        input_height: int | None = None,
        precision: str = "auto",
    ) -> None:
        """Refuses settings that the graph does not have, as ``predict`` would at every image.

        Raises:
            InputError: names the setting and what the graph has.
        """
        for flag, asked, own in (
            ("steps", steps, self.steps),
            ("draws", draws, self.draws),
            ("input height", input_height, self.input_height),
            ("precision", None if precision == "auto" else precision, self.precision),
        ):
            if asked is not None and asked != own:
                raise InputError(
                    f"{self.path}: was exported with {flag} {own}, not {asked}; leave it out, or export again with "
                    f"--{flag.replace(' ', '-')} {asked}"
                )
        if window is not None and self.input_height:
            raise InputError(
                f"{self.path}: scales images to {self.input_height} rows, so a window would be scaled too; "
                "export again with --input-height 0 to use windows"
            )
        if window is not None and min(window) < SMALLEST:
            raise InputError(f"window is {window[0]}×{window[1]}; give at least {SMALLEST}×{SMALLEST} pixels")

    def _check_size(self, height: int, width: int) -> None:
        seen, scaled = width, ""
        if self.input_height:
            seen = scaled_width(height, width, self.input_height)
            scaled = f" ({seen}×{self.input_height} as the model sees it)"
        if min(height, width, seen) < SMALLEST:
            raise InputError(
                f"an image has {width}×{height} pixels{scaled}; exported models need {SMALLEST}×{SMALLEST} at least"
            )
        if self.input_height:
            check_scaled((height, width), (self.input_height, seen))

    def _run(self, batch: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pixels = (batch * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        try:
            answers = self._engine(np.ascontiguousarray(pixels.numpy()))
            labels, probabilities = answers["labels"], answers["probabilities"]
        except Exception as error:  # runtimes have errors of their own
            size = f"{batch.shape[-1]}×{batch.shape[-2]}"
            raise InputError(f"{self.path}: fails on images of {size} pixels ({_said(error)})") from error
        count, height, width = len(batch), batch.shape[-2], batch.shape[-1]
        if labels.shape != (count, height, width) or probabilities.shape != (
            count,
            len(self.label_space),
            height,
            width,
        ):
            raise InputError(
                f"{self.path}: answers with labels of {labels.shape} and probabilities of {probabilities.shape}, "
                "which fit neither the image nor its classes; export it again"
            )
        # One draw disagrees with nothing.
        return labels, probabilities, answers.get("mutual_information", np.zeros(labels.shape, np.float32))

    def _maps(self, tile: Tensor) -> Maps:
        _, probabilities, information = self._run(tile)
        return torch.from_numpy(probabilities), torch.from_numpy(information)[:, None]


def load_exported(model: str, *, device: str = "auto", threads: int = 0) -> ExportedSegmenter:
    """Opens an exported file. It may come from anybody: it is checked, and nothing in it is run but its graph.

    Args:
        model: a file with the ending ``.onnx`` or ``.xml`` (OpenVINO).
        device: auto and cpu; ONNX Runtime also takes cuda where its package has it.
        threads: CPU threads; 0 takes the fastest number in a trial, once in the life of the process.

    Raises:
        InputError: no such file, a damaged one or one that is no exported ICCLD model, a runtime that is not
            installed, or a device that it does not have.
    """
    path = Path(model)
    if path.suffix not in _OPENERS:
        raise InputError(
            f"{path}: files of torch.export hold pickles, which run code, and are not read; "
            "export to onnx or openvino, or give the folder of the model itself"
        )
    if not path.is_file():
        raise InputError(f"{path}: no such file; write it with: iccld export MODEL --out {path}")
    try:
        return _OPENERS[path.suffix](
            path, device, use_threads(threads, "cpu" if device == "auto" else device)
        )
    except (InputError, MemoryError):
        raise
    except Exception as error:  # two runtimes, each with errors of its own: all mean the same to the user
        raise InputError(
            f"{path}: damaged, or not of this runtime ({_said(error)}); export it again"
        ) from error


def _read_facts(path: Path, text: str) -> Facts:
    stored = parse_json(text, str(path), remedy="export it again") if text else {}
    if not isinstance(stored, dict) or stored.get("format") != "iccld-export":
        raise InputError(f"{path}: is no exported ICCLD model; write one with: iccld export MODEL")
    return build(Facts, stored, f"{path}: its metadata (export it again)", others=True)


def _open_onnx(path: Path, device: str, threads: int) -> ExportedSegmenter:
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError as error:
        raise InputError(f"{path}: needs ONNX Runtime; {how_to_install('onnx')}") from error
    # Other providers than these two have precisions of their own.
    known: dict[str, dict[str, str]] = {
        "CUDAExecutionProvider": {"use_tf32": "0"},
        "CPUExecutionProvider": {},
    }
    available = [name for name in known if name in onnxruntime.get_available_providers()]
    wanted = {"auto": available, "cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider"]}
    providers = [(name, known[name]) for name in wanted.get(device, []) if name in available]
    if not providers:
        raise InputError(
            f"device {device!r}: ONNX Runtime has no such here ({', '.join(available)}); give auto or cpu"
        )
    data, text = read_onnx(path, FACTS)
    facts = _read_facts(path, text)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is said by us; the rest is about its own optimizations
    options.intra_op_num_threads = threads
    # As torch's threads (see iccld.threads): those that wait leave their processor to others.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(data, options, providers=providers)
    names = [output.name for output in session.get_outputs()]

    def run(images: np.ndarray) -> Outputs:
        return dict(zip(names, session.run(names, {"images": images}), strict=True))

    return ExportedSegmenter(path, run, facts)


def _open_openvino(path: Path, device: str, threads: int) -> ExportedSegmenter:
    try:
        core = open_core()
    except ImportError as error:
        raise InputError(f"{path}: needs OpenVINO; {how_to_install('openvino')}") from error
    if device not in ("auto", "cpu"):
        raise InputError(f"device {device!r}: OpenVINO models are run on the CPU here; give auto or cpu")
    model, text = read_openvino(path, core, FACTS)
    facts = _read_facts(path, text)
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[facts.precision],
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # others may need the cores
    }
    compiled = core.compile_model(model, "CPU", settings)
    names = [output.get_any_name() for output in compiled.outputs]

    def run(images: np.ndarray) -> Outputs:
        answers = compiled(images).to_tuple()
        return {name: np.array(value) for name, value in zip(names, answers, strict=True)}

    return ExportedSegmenter(path, run, facts)


_OPENERS = {".onnx": _open_onnx, ".xml": _open_openvino}


def _said(error: Exception) -> str:
    return visible(" ".join(str(error).split()) or type(error).__name__)[:200]
