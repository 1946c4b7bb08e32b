"""Fraction of pixels in which exported models agree with torch in fp32.

``python benchmarks/export_agreement.py MODEL IMAGES --json out.json`` reads a model's folder and evenly spaced images
of a folder. The script exports the model and compares the labels of each runtime, pixel by pixel, with the labels of
torch in fp32 and with the noise of the exported files. Compared are free and fixed input sizes, fp32 and bf16. OpenVINO
is also run with default settings ("plain"). Torch in bf16 and the network compiled by ``torch.compile`` are compared
too.

Bars: 99.9 % in fp32, 99.5 % in bf16.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import torch
from timing import describe_command

from iccld.data.image_files import is_image_name, read_image
from iccld.files import write_json
from iccld.inference.export import ExportGraph, export_model
from iccld.inference.exported import load_exported, open_core
from iccld.inference.segmenter import load_model
from iccld.models.iccld import ICCLD
from iccld.reporting.environment import describe_code, describe_machine

BARS = {"fp32": 99.9, "bf16": 99.5}

Run = Callable[[np.ndarray], np.ndarray]
"""Function of images, (b, h, w, 3), uint8, that returns label maps, (b, h, w)."""


def main() -> None:
    """Measures the agreement and prints a table. With ``--json``, writes a JSON file."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    model = load_model(str(arguments.model), device="cpu")
    images = _images(arguments.images, arguments.count)
    with tempfile.TemporaryDirectory() as folder:
        shares = _measure(model, images, Path(folder), arguments)
    facts = {
        "command": describe_command("export_agreement.py"),
        **describe_code(),
        "machine": describe_machine(arguments.threads, "cpu"),
        "versions": {m.__name__: m.__version__ for m in (torch, onnxruntime, openvino)},
        "backbone": model.spec.backbone,
        "steps": arguments.steps,
        "images": len(images),
        "sizes": sorted({f"{image.shape[2]}x{image.shape[1]}" for image in images}),
        "agreement_percent": shares,
    }
    for name, share in shares.items():
        bar = BARS["bf16" if "bf16" in name else "fp32"]
        print(f"{name:>34}: {share:8.4f} %  (bar: {bar}){'' if share >= bar else '  MISSED'}")
    if arguments.json is not None:
        print(f"written: {write_json(arguments.json, facts)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--count", type=int, default=20, help="images, at even distances (default: 20)")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compiled", action="store_true", help="torch.compile too, which takes a minute")
    parser.add_argument("--json", type=Path, default=None, help="write the figures here")
    return parser.parse_args()


def _images(folder: Path, count: int) -> list[np.ndarray]:
    paths = sorted(path for path in folder.rglob("*") if is_image_name(path.name))
    places = np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)
    return [read_image(paths[place])[None] for place in places]


def _measure(
    model: ICCLD, images: Sequence[np.ndarray], folder: Path, arguments: argparse.Namespace
) -> dict[str, float]:
    graph = ExportGraph(model, steps=arguments.steps, draws=1, input_height=model.spec.input_height)

    def by_torch(module: Any) -> Run:
        def run(batch: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                labels: np.ndarray = module(torch.from_numpy(batch))[0].numpy()
            return labels

        return run

    wanted = [by_torch(graph)(image) for image in images]
    files = {
        "onnx fp32": export_model(model, folder / "m.onnx", "onnx", steps=arguments.steps),
        "openvino fp32": export_model(model, folder / "m.xml", "openvino", steps=arguments.steps),
        "openvino bf16": export_model(
            model, folder / "h.xml", "openvino", steps=arguments.steps, precision="bf16"
        ),
    }
    shares = {}
    for name, path in files.items():
        exported = load_exported(str(path), threads=arguments.threads)
        shares[f"{name}, free sizes"] = _share(
            lambda image, e=exported: e.predict(image).labels, images, wanted
        )
        fixed = _by_size(path, name, arguments.threads)
        shares[f"{name}, fixed sizes"] = _share(fixed, images, wanted)
    core = open_core()
    plain = core.compile_model(files["openvino fp32"], "CPU", {"INFERENCE_NUM_THREADS": arguments.threads})
    shares["openvino fp32, plain"] = _share(lambda i: plain(i).to_tuple()[0].copy(), images, wanted)
    eager = [model.predict(image, steps=arguments.steps, precision="fp32").labels for image in images]
    half = _share(lambda i: model.predict(i, steps=arguments.steps, precision="bf16").labels, images, eager)
    shares["torch bf16"] = half
    if arguments.compiled:
        compiled = by_torch(torch.compile(graph, dynamic=False))
        shares["torch.compile fp32"] = _share(compiled, images, wanted)
    return shares


def _by_size(path: Path, name: str, threads: int) -> Run:
    """Returns a function that opens the exported file once for each input size, with the size fixed."""
    opened: dict[tuple[int, ...], Run] = {}

    def run(batch: np.ndarray) -> np.ndarray:
        if batch.shape not in opened:
            fix = _fixed_onnx if name.startswith("onnx") else _fixed_openvino
            opened[batch.shape] = fix(path, batch.shape, name.split()[1], threads)
        return opened[batch.shape](batch)

    return run


def _fixed_onnx(path: Path, shape: Sequence[int], precision: str, threads: int) -> Run:
    graph = onnx.load(path)
    for dim, size in zip(graph.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        dim.dim_value = size
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda batch: session.run(["labels"], {"images": batch})[0]


def _fixed_openvino(path: Path, shape: Sequence[int], precision: str, threads: int) -> Run:
    core = open_core()
    graph = core.read_model(path)
    graph.reshape({0: list(shape)})
    hint = {"fp32": "f32", "bf16": "bf16"}[precision]
    compiled = core.compile_model(
        graph, "CPU", {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
    )
    return lambda batch: compiled(batch).to_tuple()[0].copy()


def _share(run: Run, images: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> float:
    """Returns the percentage of pixels whose label is as ``wanted``, rounded to four decimals."""
    equal = total = 0
    for image, labels in zip(images, wanted, strict=True):
        equal += int((run(image) == labels).sum())
        total += labels.size
    return round(100 * equal / total, 4)


if __name__ == "__main__":
    main()
