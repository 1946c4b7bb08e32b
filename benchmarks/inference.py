"""What a prediction costs beside its image coder: ``python benchmarks/inference.py --threads 2 --json out.json``.

Times, in turn within one process, the image coder alone and :meth:`ICCLD.predict` (uint8 image in, labels,
probabilities and uncertainty out) with one, two and four sampling steps, on random weights and a random image.
Bars: a one-step prediction takes at most twice the time of the image coder alone, and each further step at
most 15 % of the first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from iccld.compute import autocast
from iccld.labels import CITYSCAPES19
from iccld.models.iccld import ICCLD
from iccld.models.prediction import to_batch

STEPS = (1, 2, 4)
BAR_FIRST_STEP, BAR_FURTHER_STEP = 2.0, 0.15


def main() -> None:
    """Measures, prints a table and, if asked, writes JSON."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = ICCLD(CITYSCAPES19, backbone=arguments.backbone).eval().to(arguments.device)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    height, width = arguments.size
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    work = _work(model, image, arguments.precision)
    medians = _measure(work, arguments.repeats, arguments.device)
    facts = {
        "backbone": arguments.backbone,
        "size": [height, width],
        "precision": arguments.precision,
        "device": arguments.device,
        "threads": arguments.threads,
        "repeats": arguments.repeats,
        "torch": torch.__version__,
        "median_ms": {name: round(1e3 * seconds, 2) for name, seconds in medians.items()},
        **_ratios(medians),
    }
    _show(facts)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="mit_b0")
    parser.add_argument("--size", nargs=2, type=int, default=(512, 1024), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--precision", default="bf16", choices=("bf16", "fp32"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path, default=None, help="write the figures here")
    return parser.parse_args()


def _work(model: ICCLD, image: np.ndarray, precision: str) -> dict[str, Callable[[], object]]:
    device = next(model.parameters()).device
    batch = to_batch(image)[0].to(device).contiguous(memory_format=torch.channels_last)

    def code() -> object:
        with torch.inference_mode(), autocast(device.type, precision):
            return model.image_coder(batch)

    def predict(steps: int) -> Callable[[], object]:
        return lambda: model.predict(image, steps=steps, precision=precision)

    return {"image coder": code, **{f"predict, {k} step{'s' * (k > 1)}": predict(k) for k in STEPS}}


def _measure(work: Mapping[str, Callable[[], object]], repeats: int, device: str) -> dict[str, float]:
    """Median seconds of each piece of work; they take turns, so that a busy moment hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(repeats + 2):
        for name, do in work.items():
            start = time.perf_counter()
            do()
            if device == "cuda":
                torch.cuda.synchronize()
            if repeat >= 2:  # the first two rounds warm up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def _ratios(medians: Mapping[str, float]) -> dict[str, object]:
    coder, first, *_, last = medians.values()
    further = (last - first) / (STEPS[-1] - STEPS[0]) / first
    return {
        "first_step_to_image_coder": round(first / coder, 3),
        "further_step_to_first": round(further, 3),
        "within_bars": bool(first / coder <= BAR_FIRST_STEP and further <= BAR_FURTHER_STEP),
    }


def _show(facts: Mapping[str, object]) -> None:
    medians = facts["median_ms"]
    assert isinstance(medians, dict)
    height, width = facts["size"]  # type: ignore[misc]
    print(
        f"{facts['backbone']}, {height}×{width}, {facts['precision']}, {facts['device']}, "
        f"{facts['threads']} threads, torch {facts['torch']}"
    )
    coder = medians["image coder"]
    for name, milliseconds in medians.items():
        print(f"{name:>18}: {milliseconds:9.1f} ms  {milliseconds / coder:5.2f} × image coder")
    print(f"one step / image coder:   {facts['first_step_to_image_coder']} (bar: {BAR_FIRST_STEP})")
    print(f"further step / one step:  {facts['further_step_to_first']} (bar: {BAR_FURTHER_STEP})")


if __name__ == "__main__":
    main()
