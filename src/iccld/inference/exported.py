"""Exported models in use: the same ``predict`` on ONNX Runtime, OpenVINO or torch, without the network's code."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from iccld.errors import InputError, how_to_install
from iccld.labels import LabelSpace
from iccld.models.prediction import Maps, Prediction, check_scaled, predict_windows, to_batch
from iccld.resizing import scaled_width
from iccld.threads import use_threads

Format = Literal["onnx", "openvino", "torch"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
FACTS = "iccld"  # key of the facts in every format's metadata
SMALLEST = 33  # pixels a side: smaller images are padded by more than to the next multiple of 32

Engine = Callable[[np.ndarray], list[np.ndarray]]
"""uint8 images b h w 3 → labels, probabilities, uncertainty and, of several draws, mutual information."""


class ExportedSegmenter:
    """A model that ``iccld.inference.export.export_model`` wrote.

    Args:
        path: the file.
        engine: runs the graph.
        facts: from the file's metadata.

    Raises:
        InputError: the facts are not those of an exported model.
    """

    def __init__(self, path: Path, engine: Engine, facts: dict[str, Any]) -> None:
        self.path, self._engine = path, engine
        try:
            self.label_space = LabelSpace.from_dict(facts["label_space"])
            self.steps, self.draws = int(facts["steps"]), int(facts["draws"])
            self.input_height = int(facts["input_height"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}: its metadata is incomplete or of a newer version ({error}); export it again"
            ) from error

    def predict(
        self,
        images: np.ndarray,
        *,
        steps: int | None = None,
        draws: int | None = None,
        seed: int = 0,
        window: tuple[int, int] | None = None,
        overlap: float = 0.25,
        input_height: int | None = None,
    ) -> Prediction:
        """Segments images of any size from 33×33 pixels on.

        Args:
            images: RGB, uint8 or float in [0, 1], ``(h, w, 3)`` or ``(b, h, w, 3)``.
            steps: the graph's own, or None.
            draws: the graph's own, or None.
            seed: not used: the graph has its noise.
            window: height and width of a sliding window; only of a graph that does not scale its images.
            overlap: share of a window that the next one covers again.
            input_height: the graph's own, or None.

        Raises:
            InputError: an array of another shape, type or range, or a setting that the graph does not have.
        """
        self.check_settings(steps=steps, draws=draws, window=window, input_height=input_height)
        batch, single = to_batch(images)
        self._check_size(batch.shape[-2], batch.shape[-1])
        if window is None:
            labels, probabilities, uncertainty, information = self._run(batch)
        else:
            maps = predict_windows(self._maps, batch, window, overlap)
            probabilities, stacked = (m.numpy() for m in maps)
            labels = probabilities.argmax(axis=1).astype(np.uint8)
            uncertainty, information = stacked[:, 0], stacked[:, 1]
        prediction = Prediction(*cast(Any, (labels, probabilities, uncertainty, information)))
        if not single:
            return prediction
        return dataclasses.replace(
            prediction,
            **{f.name: getattr(prediction, f.name)[0] for f in dataclasses.fields(prediction)},
        )

    def check_settings(
        self,
        *,
        steps: int | None = None,
        draws: int | None = None,
        window: tuple[int, int] | None = None,
        input_height: int | None = None,
    ) -> None:
        """Refuses settings that the graph does not have, as ``predict`` would at every image.

        Raises:
            InputError: names the setting and what the graph has.
        """
        for flag, asked, own in (
            ("steps", steps, self.steps),
            ("draws", draws, self.draws),
            ("input height", input_height, self.input_height),
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

    def _run(self, batch: Tensor) -> list[np.ndarray]:
        pixels = (batch * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        answers = self._engine(np.ascontiguousarray(pixels.numpy()))
        if len(answers) == 3:  # one draw disagrees with nothing
            answers.append(np.zeros_like(answers[2]))
        return answers

    def _maps(self, tile: Tensor) -> Maps:
        _, probabilities, *doubts = self._run(tile)
        return torch.from_numpy(probabilities), torch.from_numpy(np.stack(doubts, axis=1))


def load_exported(model: str, *, device: str = "auto", threads: int = 0) -> ExportedSegmenter:
    """Opens an exported file.

    Args:
        model: a file with the ending ``.onnx``, ``.xml`` (OpenVINO) or ``.pt2``.
        device: auto and cpu; ONNX Runtime also takes cuda where its package has it.
        threads: CPU threads; 0 takes the fastest number in a trial, once in the life of the process.

    Raises:
        InputError: no such file, a damaged one or one that is no exported ICCLD model, a runtime that is not
            installed, or a device that it does not have.
    """
    path = Path(model)
    if not path.is_file():
        raise InputError(f"{path}: no such file; write it with: iccld export MODEL --out {path}")
    if path.suffix == SUFFIXES["openvino"] and not path.with_suffix(".bin").is_file():
        raise InputError(f"{path}: its weights {path.with_suffix('.bin').name} are missing; copy both files")
    openers = {".onnx": _open_onnx, ".xml": _open_openvino, ".pt2": _open_torch}
    try:
        engine, text = openers[path.suffix](
            path, device, use_threads(threads, "cpu" if device == "auto" else device)
        )
    except (InputError, MemoryError):
        raise
    except Exception as error:  # three runtimes, each with errors of its own: all mean the same to the user
        reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
        raise InputError(f"{path}: damaged, or not of this runtime ({reason}); export it again") from error
    try:
        facts = json.loads(text)
        assert facts["format"] == "iccld-export"
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        raise InputError(f"{path}: is no exported ICCLD model; write one with: iccld export MODEL") from error
    return ExportedSegmenter(path, engine, facts)


def _open_onnx(path: Path, device: str, threads: int) -> tuple[Engine, str]:
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"{path}: needs ONNX Runtime; {how_to_install('onnx')}") from error
    available = onnxruntime.get_available_providers()
    wanted = {"auto": available, "cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider"]}
    providers = [p for p in wanted.get(device, []) if p in available]
    if not providers:
        raise InputError(
            f"device {device!r}: ONNX Runtime has no such here ({', '.join(available)}); give auto or cpu"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: the rest is about its own optimizations
    options.intra_op_num_threads = threads
    # As torch's threads (see iccld.threads): those that wait leave their processor to others.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=providers)

    def run(images: np.ndarray) -> list[np.ndarray]:
        return cast(list[np.ndarray], session.run(None, {"images": images}))

    return run, session.get_modelmeta().custom_metadata_map.get(FACTS, "")


def _open_openvino(path: Path, device: str, threads: int) -> tuple[Engine, str]:
    try:
        import openvino
    except ImportError as error:
        raise InputError(f"{path}: needs OpenVINO; {how_to_install('openvino')}") from error
    if device not in ("auto", "cpu"):
        raise InputError(f"device {device!r}: OpenVINO models are run on the CPU here; give auto or cpu")
    core = openvino.Core()
    model = core.read_model(path)
    text = str(model.get_rt_info(FACTS).value) if model.has_rt_info(FACTS) else ""
    compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads})

    def run(images: np.ndarray) -> list[np.ndarray]:
        return [np.array(value) for value in compiled(images).to_tuple()]

    return run, text


def _open_torch(path: Path, device: str, threads: int) -> tuple[Engine, str]:
    if device not in ("auto", "cpu"):
        raise InputError(f"device {device!r}: torch exports are run on the CPU here; give auto or cpu")
    files = {f"{FACTS}.json": ""}
    graph = torch.export.load(path, extra_files=files).module()

    def run(images: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            return [value.numpy() for value in graph(torch.from_numpy(images))]

    return run, files[f"{FACTS}.json"]
