"""Time and hardware utilization of a training step: ``python benchmarks/train_step.py --json FILE``.

Takes training steps of several methods in turn within one process, with noise images, random weights and all branches
of each method. Mean times are compared with source-only training of a deterministic head. Means are used instead of
medians, because the number of samples with a second pass is random in each step. Then the floating-point operations of
the same steps are counted. The rate of operations is compared with the peak of convolutions and matrix products on this
machine (``benchmarks/limits.py``). Finally, the parts of the steps are measured.

Bars: ICCLD takes at most 3 times source-only and is not slower than MIC; utilization of at least 35 % of the peak.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import limits
import torch
from step_parts import count_flops, measure_parts, profile_kinds
from step_times import Step, make_step, noise_config
from timing import WARM_UP, describe_command, take_turns

from iccld.compute import uses_bf16
from iccld.config import with_settings
from iccld.files import write_json
from iccld.presets import with_method
from iccld.reporting.environment import describe_code, describe_machine

_COLOR_ALONE = {"adaptation.mixing": "none", "adaptation.adversarial_weight": 0.0}
_LIGHT = {"model.light_steps": True}
_PLAIN = {
    "model.diffusion": False,
    "adaptation.denoising_weight": 0.0,
    "adaptation.reconstruction_weight": 0.0,
}
SOURCE_ONLY, ICCLD = "source only", "ICCLD"
VARIANTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    SOURCE_ONLY: ("source_only", _PLAIN),
    ICCLD: ("iccld", {}),
    "ICCLD, light steps": ("iccld", _LIGHT),
    "ICCLD without mixed domain and adversary": ("iccld", _COLOR_ALONE),
    "DAFormer's recipe": ("daformer", {}),
    "MIC": ("mic", {}),
}
MOST, LEAST_OF_PEAK = 3.0, 0.35


def main() -> None:
    """Measures the steps and prints tables. With ``--json``, writes a JSON file."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    steps = {name: _make(name, arguments) for name in VARIANTS}
    times = take_turns(steps, arguments.repeats, device=arguments.device)
    means = {name: statistics.fmean(values) for name, values in times.items()}
    height, width = arguments.crop
    print(
        f"{arguments.backbone}, {arguments.batch} × {height}×{width}, {arguments.precision}, {arguments.device}, "
        f"{arguments.threads} threads"
    )
    ratios = _show_times(means)
    peaks, source = _peaks(arguments)
    peak = max(peaks.values())
    utilization = _utilization(steps, means, peak, arguments.repeats)
    _show_utilization(utilization, peak, f"{arguments.precision}, {source}")
    parts = {
        name: measure_parts(steps[name], min(5, arguments.repeats), arguments.device) for name in VARIANTS
    }
    kinds = {name: profile_kinds(steps[name], arguments.device) for name in VARIANTS}
    for name in (ICCLD, "ICCLD, light steps"):
        _show_parts(name, parts[name], kinds[name])
    facts = {
        "command": describe_command("train_step.py"),
        **describe_code(),
        "machine": describe_machine(arguments.threads, arguments.device),
        "backbone": arguments.backbone,
        "batch": arguments.batch,
        "crop": [height, width],
        "precision": arguments.precision,
        "repeats": arguments.repeats,
        "mean_ms": {name: round(1e3 * seconds, 2) for name, seconds in means.items()},
        "median_ms": {name: round(1e3 * statistics.median(values), 2) for name, values in times.items()},
        "ratios": ratios,
        "peaks_gflops": {name: round(value, 1) for name, value in peaks.items()},
        "peaks_from": source,
        "utilization": utilization,
        "parts": parts,
        "kinds_of_operators": kinds,
    }
    if arguments.json is not None:
        print(f"written: {write_json(arguments.json, facts)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="compact")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--crop", nargs=2, type=int, default=(256, 512), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--precision", default="auto", choices=("auto", "bf16", "fp32"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--limits", type=Path, default=limits.OUT, help="figures of benchmarks/limits.py")
    parser.add_argument("--json", type=Path, default=None, help="write the figures here")
    arguments = parser.parse_args()
    arguments.precision = "bf16" if uses_bf16(arguments.device, arguments.precision) else "fp32"
    return arguments


def _make(name: str, arguments: argparse.Namespace) -> Step:
    method, settings = VARIANTS[name]
    config = noise_config(arguments.backbone, tuple(arguments.crop), arguments.batch)
    config = with_settings(with_method(config, method), settings)
    return make_step(replace(config, device=arguments.device, precision=arguments.precision))


def _show_times(means: Mapping[str, float]) -> dict[str, tuple[float, str]]:
    """Prints the times and returns name → (ratio, bar of the ratio)."""
    first, ours = means[SOURCE_ONLY], means[ICCLD]
    for name, seconds in means.items():
        print(f"{name:>48}: {1e3 * seconds:9.1f} ms  {seconds / first:5.2f} × {SOURCE_ONLY}")
    ratios = {"ICCLD / source only": (round(ours / first, 3), f"≤ {MOST}")}
    ratios["ICCLD, light steps / source only"] = (
        round(means["ICCLD, light steps"] / first, 3),
        f"≤ {MOST}",
    )
    for rival in ("DAFormer's recipe", "MIC"):
        ratios[f"ICCLD / {rival}"] = (round(ours / means[rival], 3), "< 1")
    for name, (value, bar) in ratios.items():
        print(f"{name:>48}: {value:6.3f}  (bar: {bar})")
    return ratios


def _peaks(arguments: argparse.Namespace) -> tuple[dict[str, float], str]:
    """Returns the peak GFLOP/s of convolutions and matrix products in the run's precision, and the origin."""
    try:
        facts = json.loads(arguments.limits.read_text(encoding="utf-8"))
    except OSError:
        facts = {"machine": None}
    if facts["machine"] == describe_machine(arguments.threads, arguments.device):
        marks = ("matmul_", "conv3x3_")
        figures = {
            name: value
            for name, value in facts["figures"].items()
            if name.startswith(marks) and f"_{arguments.precision}_" in name
        }
        return figures, arguments.limits.name
    # A peak of another machine or of another number of threads is not comparable with this run.
    return limits.measure_peaks(arguments.precision, 10, arguments.device), "measured in this run"


def _utilization(
    steps: Mapping[str, Step], means: Mapping[str, float], peak: float, repeats: int
) -> dict[str, dict[str, float]]:
    """Returns the GFLOP per step, the GFLOP/s and the fraction of the peak, for the same steps that were timed.

    Forward pass, backward pass and teacher are counted.
    """
    rows = {}
    for name, step in steps.items():
        step.index = WARM_UP
        gflop = count_flops(step, repeats) / repeats / 1e9
        rate = gflop / means[name]
        rows[name] = {
            "gflop": round(gflop, 2),
            "gflops": round(rate, 1),
            "share_of_peak": round(rate / peak, 4),
        }
    return rows


def _show_utilization(rows: Mapping[str, Mapping[str, float]], peak: float, source: str) -> None:
    print(f"\nutilization (peak: {peak:.0f} GFLOP/s, {source}; bar: ≥ {100 * LEAST_OF_PEAK:.0f} %)")
    for name, row in rows.items():
        print(
            f"{name:>48}: {row['gflop']:9.1f} GFLOP {row['gflops']:9.1f} GFLOP/s {100 * row['share_of_peak']:6.1f} %"
        )


def _show_parts(name: str, parts: list[dict[str, Any]], kinds: Mapping[str, float]) -> None:
    print(f"\n{name}: parts of a step (all but the backward pass and the optimizer: forward)")
    for row in parts:
        print(
            f"{row['part']:>28}: {row['ms']:9.1f} ms {100 * row['share']:5.1f} % {row['gflop']:9.2f} GFLOP "
            f"{row['gflops']:9.1f} GFLOP/s"
        )
    print(f"{name}: kinds of operators, of a step's time in the profiler")
    for kind, share in kinds.items():
        print(f"{kind:>28}: {100 * share:5.1f} %")


if __name__ == "__main__":
    main()
