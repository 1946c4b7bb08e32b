"""Prediction time: ``python benchmarks/inference.py --threads 1 --json out.json``.

Measures in turn within one process, with random weights and random images:

- the image coder alone;
- ``ICCLD.predict``, from uint8 images to labels, probabilities and uncertainty, with one, two and four sampling steps
  and with eight noise draws;
- with a MiT backbone: SegFormer and a three-step substitute for DDP, same backbone (``benchmarks/references.py``);
- with ``--engines``: the exported model on ONNX Runtime and OpenVINO, and the network compiled by ``torch.compile``,
  in fp32, with the fraction of labels that agree with torch in fp32.

``--light-steps`` selects the model with light steps.

Bars: one step at most 0.6 times SegFormer and 2 times the image coder, a further step at most 5 % of the first, eight
draws at most 1.4 times one draw, the best engine at least 3 times as fast as torch in fp32 with 99.9 % equal labels.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from references import MapDiffusion, SegFormer, segment
from timing import describe_command, take_turns

from iccld.compute import autocast, uses_bf16
from iccld.files import write_json
from iccld.inference.export import ExportGraph, export_model
from iccld.inference.exported import SUFFIXES, load_exported
from iccld.labels import CITYSCAPES19
from iccld.models.iccld import ICCLD
from iccld.models.images import to_batch
from iccld.models.prediction import to_pixels
from iccld.models.transformers_backbone import MIT_NAMES
from iccld.reporting.environment import describe_code, describe_machine

STEPS = (1, 2, 4)
DRAWS = 8
ENGINES = ("onnx", "openvino", "compiled")


def main() -> None:
    """Measures the times and prints a table. With ``--json``, writes a JSON file."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = ICCLD(CITYSCAPES19, backbone=arguments.backbone, light_steps=arguments.light_steps)
    model = model.eval().to(arguments.device)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    height, width = arguments.size
    images = np.random.default_rng(0).integers(0, 256, (arguments.batch, height, width, 3), dtype=np.uint8)
    work = _work(model, images, arguments.precision)
    with tempfile.TemporaryDirectory() as folder:
        agreement = {}
        graph = ExportGraph(
            model, steps=1, draws=1, input_height=0
        )  # the same noise as in the exported files
        for engine in arguments.engines:
            run = _open(engine, graph, Path(folder), arguments.threads)
            work[engine] = partial(run, images)
            with torch.inference_mode():
                labels = graph(torch.from_numpy(images))[0].numpy()
            agreement[engine] = round(float((run(images) == labels).mean()), 5)
        if arguments.engines:
            work["predict, fp32"] = partial(model.predict, images, precision="fp32")
        times = take_turns(work, arguments.repeats, device=arguments.device)
    medians = {name: statistics.median(values) for name, values in times.items()}
    facts = {
        "command": describe_command("inference.py"),
        **describe_code(),
        "machine": describe_machine(arguments.threads, arguments.device),
        "backbone": arguments.backbone,
        "light_steps": arguments.light_steps,
        "batch": arguments.batch,
        "size": [height, width],
        "precision": arguments.precision,
        "repeats": arguments.repeats,
        "median_ms": {name: round(1e3 * seconds, 2) for name, seconds in medians.items()},
        "label_agreement": agreement,
        "ratios": _ratios(medians),
    }
    _show(facts)
    if arguments.json is not None:
        print(f"written: {write_json(arguments.json, facts)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="mit_b0")
    parser.add_argument("--light-steps", action="store_true")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", nargs=2, type=int, default=(512, 1024), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--precision", default="auto", choices=("auto", "bf16", "fp32"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--engines", nargs="*", default=[], choices=ENGINES)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path, default=None, help="write the figures here")
    arguments = parser.parse_args()
    if arguments.engines and arguments.device != "cpu":
        parser.error("--engines are compared on the CPU")
    if uses_bf16(arguments.device, arguments.precision):
        arguments.precision = "bf16"
    elif arguments.precision == "auto":
        arguments.precision = "fp32"
    return arguments


def _open(engine: str, graph: ExportGraph, folder: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that predicts the label maps of images with an engine."""
    if engine == "compiled":
        compiled = torch.compile(graph, dynamic=False)

        def run(images: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                labels: np.ndarray = compiled(torch.from_numpy(images))[0].numpy()
            return labels

        return run
    path = export_model(graph.model, folder / f"model{SUFFIXES[engine]}", engine)
    exported = load_exported(str(path), threads=threads)
    return lambda images: exported.predict(images).labels


def _work(model: ICCLD, images: np.ndarray, precision: str) -> dict[str, Callable[[], object]]:
    device = next(model.parameters()).device
    batch = to_batch(images)[0].to(device).contiguous(memory_format=torch.channels_last)

    def code() -> object:
        with torch.inference_mode(), autocast(device.type, precision):
            return model.image_coder(batch)

    work: dict[str, Callable[[], object]] = {"image coder": code}
    if device.type == "cpu":  # On a GPU, parts overlap in time.
        work |= _parts(model, batch, precision)
    for steps in STEPS:
        name = f"predict, K = {steps}"
        work[name] = partial(model.predict, images, steps=steps, precision=precision)
    work[f"predict, N = {DRAWS}"] = partial(model.predict, images, draws=DRAWS, precision=precision)
    if model.spec.backbone in MIT_NAMES:
        num_classes = len(model.label_space)
        for name, network in (
            ("SegFormer", SegFormer(model.spec.backbone, num_classes)),
            ("DDP-like, K = 3", MapDiffusion(model.spec.backbone, num_classes)),
        ):
            work[name] = partial(segment, network.eval().to(device), images, precision)
    return work


def _parts(model: ICCLD, batch: torch.Tensor, precision: str) -> dict[str, Callable[[], object]]:
    """Returns the parts of a prediction after the image coder, each as a function to time."""

    def timed(do: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            with torch.inference_mode(), autocast(batch.device.type, precision):
                return do()

        return run

    with torch.inference_mode(), autocast(batch.device.type, precision):
        features, state = model.image_coder(batch), model.encode(batch)
        noise, times = model.draw_noise(state, len(batch)), torch.ones(len(batch))
        latent = model.denoise(noise, times, state)
        answer = model.segment(state, noise)

    def project() -> object:
        seen = model.neck(features)
        return model.denoiser.project(seen), model.label_decoder.project(seen)

    stride, size = model.label_decoder.out_stride, (batch.shape[-2], batch.shape[-1])
    parts: dict[str, Callable[[], object]] = {
        "image's side": project,
        "denoiser": lambda: model.denoiser(noise, times, state.context),
        "decoder": lambda: model.label_decoder(latent, state.details, state.size),
        "decoder and re-encoding": lambda: model.reencode(latent, state),
        "to pixels": lambda: to_pixels((answer, answer[:, :1]), stride, size),
    }
    return {f"  {name}": timed(do) for name, do in parts.items()}


def _ratios(medians: Mapping[str, float]) -> dict[str, tuple[float, str]]:
    """Returns name → (ratio, bar of the ratio)."""
    first, last = medians[f"predict, K = {STEPS[0]}"], medians[f"predict, K = {STEPS[-1]}"]
    ratios = {
        "one step / image coder": (first / medians["image coder"], "≤ 2"),
        "further step / one step": ((last - first) / (STEPS[-1] - STEPS[0]) / first, "≤ 0.05"),
        f"{DRAWS} draws / one draw": (medians[f"predict, N = {DRAWS}"] / first, "≤ 1.4"),
    }
    for name in ("SegFormer", "DDP-like, K = 3"):
        if name in medians:
            ratios[f"one step / {name}"] = (first / medians[name], "≤ 0.6" if name == "SegFormer" else "–")
    engines = [medians[name] for name in ENGINES if name in medians]
    if engines:
        ratios["torch fp32 / best engine"] = (medians["predict, fp32"] / min(engines), "≥ 3")
    return {name: (round(value, 3), bar) for name, (value, bar) in ratios.items()}


def _show(facts: Mapping[str, Any]) -> None:
    medians, machine = facts["median_ms"], facts["machine"]
    height, width = facts["size"]
    name = facts["backbone"] + (", light steps" if facts["light_steps"] else "")
    print(
        f"{name}, {facts['batch']} × {height}×{width}, {facts['precision']}, {machine['cpu']}, "
        f"{machine['threads']} threads, torch {machine['torch']}"
    )
    for name, milliseconds in medians.items():
        print(
            f"{name:>28}: {milliseconds:9.1f} ms  {milliseconds / medians['image coder']:5.2f} × image coder"
        )
    for name, (value, bar) in facts["ratios"].items():
        print(f"{name:>28}: {value:6.3f}  (bar: {bar})")
    for engine, share in facts["label_agreement"].items():
        print(f"labels of {engine} that agree with torch: {100 * share:.3f} %")


if __name__ == "__main__":
    main()
