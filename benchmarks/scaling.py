"""Scaling of a training step: ``python benchmarks/scaling.py --json FILE --plot FILE.png``.

Takes training steps of ICCLD with default settings, the compact coder, random weights and noise images. Each case runs
in a separate process. Measured are the median time, and the peak resident memory minus the memory of a process that has
only imported all modules. Four series increase the pixels, the batch size, the classes, or the ranks of distributed
training with one core per rank. Exponents are fitted by least squares to the logarithms. At small sizes, the constant
cost of a step lowers the exponent. Therefore the exponent between the two largest sizes is reported too.

In training, a random selection of labeled samples takes the second pass of self-aligned denoising. Here all labeled
samples take the second pass, so that cases differ only in size. In the series of ranks, the selection is random as in
training, because ranks wait for each other.

Bars: time grows with an exponent of at most 1.05 in the pixels; two ranks process at least 1.8 times the images of one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from processes import available_gib, peak_gib, run_case
from timing import describe_command

from iccld.compute import uses_bf16
from iccld.files import write_json
from iccld.reporting.environment import describe_code, describe_machine

SERIES = ("pixels", "batch", "classes", "ranks")
STEEPEST, LEAST_OF_TWO = 1.05, 1.8
_ROOM = 1.15  # safety factor on the memory extrapolated from the previous case


@dataclass(frozen=True)
class Case:
    """A case to measure.

    Attributes:
        height: Height of the image in pixels. The width is twice the height.
        batch: Number of images of each domain.
        classes: Number of classes of the model.
        ranks: Number of processes in distributed training.
        repeats: Number of timed steps.
        alike: Whether all labeled samples take the second pass of self-aligned denoising.
    """

    height: int
    batch: int = 1
    classes: int = 19
    ranks: int = 1
    repeats: int = 5
    alike: bool = True


def main() -> None:
    """Measures every series and prints tables. With ``--json`` and ``--plot``, writes a JSON file and a figure."""
    arguments = _arguments()
    if arguments.case is not None:
        result = _train(Case(**json.loads(arguments.case)), arguments.threads)
        if os.environ.get("RANK", "0") == "0":
            print(json.dumps(result), flush=True)
        return
    rows, left_out = {}, []
    for series in arguments.only:
        rows[series], missing = _measure(series, arguments)
        left_out += missing
    exponents = {
        series: {
            "time": _exponent(cases, "seconds"),
            "memory": _exponent(cases, "gib"),
            "time_at_the_end": _exponent(cases[-2:], "seconds"),
            "memory_at_the_end": _exponent(cases[-2:], "gib"),
        }
        for series, cases in rows.items()
        if series != "ranks" and len(cases) > 1
    }
    bars = _bars(rows, exponents)
    for series, powers in exponents.items():
        print(
            f"{series:>10}: time ~ n^{powers['time']:.3f}, memory ~ n^{powers['memory']:.3f}; between the two largest "
            f"n^{powers['time_at_the_end']:.3f} and n^{powers['memory_at_the_end']:.3f}"
        )
    for name, (value, bar) in bars.items():
        print(f"{name:>44}: {value:6.3f}  (bar: {bar})")
    facts = {
        "command": describe_command("scaling.py"),
        **describe_code(),
        "machine": describe_machine(arguments.threads, "cpu"),
        "precision": "bf16" if uses_bf16("cpu", "auto") else "fp32",
        "repeats": arguments.repeats,
        "rows": rows,
        "left_out": left_out,
        "exponents": exponents,
        "bars": bars,
    }
    if arguments.json is not None:
        print(f"written: {write_json(arguments.json, facts)}")
    drawn = {series: cases for series, cases in rows.items() if len(cases) > 1}
    if arguments.plot is not None and drawn:
        from scaling_figure import draw

        print(f"written: {draw(drawn, exponents, arguments.plot)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(SERIES), help="series, divided by commas")
    parser.add_argument("--largest", type=int, default=1024, help="leave out images of more rows than this")
    parser.add_argument(
        "--height", type=int, default=128, help="rows of the smallest image, and of the other series'"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, default=None, help="write the figures here")
    parser.add_argument("--plot", type=Path, default=None, help="draw them into this PNG file")
    parser.add_argument("--case", default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.only = arguments.only.split(",")
    if unknown := sorted(set(arguments.only) - set(SERIES)):
        parser.error(f"--only {unknown[0]}: choose from {', '.join(SERIES)}")
    return arguments


def _cases(series: str, arguments: argparse.Namespace) -> list[tuple[int, str, Case]]:
    """Returns the cases of a series as (size, title, case)."""
    height, repeats = arguments.height, arguments.repeats
    match series:
        case "pixels":
            heights = [h for h in (height * 2**n for n in range(4)) if h <= arguments.largest]
            return [(2 * h * h, f"{h}×{2 * h}", Case(h, repeats=repeats)) for h in heights]
        case "batch":
            return [(n, f"batch {n}", Case(height, n, repeats=repeats)) for n in (1, 2, 4, 8)]
        case "classes":
            numbers = (2, 11, 19, 50, 150)
            return [(n, f"{n} classes", Case(height, 2, n, repeats=repeats)) for n in numbers]
    return [
        (n, f"{n} rank{'s' * (n > 1)}", Case(height, 4, ranks=n, repeats=3 * repeats, alike=False))
        for n in (1, 2)
    ]


def _measure(series: str, arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Measures the cases of a series. Returns the measurements, and the cases that were left out with the reasons."""
    rows: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    print(f"{series:<22}{'s a step':>10}{'images/s':>10}{'GiB above':>11}{'GiB empty':>11}")
    for size, title, case in _cases(series, arguments):
        reason = _why_not(case, rows, size)
        if not reason:
            try:
                result = run_case(__file__, asdict(case), threads=arguments.threads, num_ranks=case.ranks)
            except subprocess.CalledProcessError as error:
                reason = f"its process ended with status {error.returncode}"
        if reason:
            left_out.append({"series": series, "case": title, "reason": reason})
            print(f"  {title:<20}left out: {reason}", flush=True)
            continue
        rows.append({"size": size, "title": title, **asdict(case), **result})
        print(
            f"  {title:<20}{result['seconds']:>10.3f}{result['images_per_s']:>10.2f}{result['gib']:>11.3f}"
            f"{result['empty_gib']:>11.3f}",
            flush=True,
        )
    return rows, left_out


def _why_not(case: Case, rows: list[dict[str, Any]], size: int) -> str:
    """Returns the reason why a case cannot run (too few cores or too little memory), or an empty text."""
    if case.ranks > len(_cores()):
        return f"it needs {case.ranks} cores"
    available = available_gib()
    if not rows or available is None:
        return ""
    last = rows[-1]
    # All memory above the empty process is assumed to grow in proportion to the size. This overestimates slightly,
    # because a part of the memory is constant.
    needed = _ROOM * (last["empty_gib"] + last["gib"] * size / last["size"])
    return f"it needs about {needed:.1f} GiB, {available:.1f} are free" if needed > available else ""


def _cores() -> list[int]:
    """Returns the numbers of the CPU cores that this process may use."""
    return (
        sorted(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else list(range(os.cpu_count() or 1))
    )


def _train(case: Case, threads: int) -> dict[str, float]:
    """Measures a case in this process, which is one of the case's ranks."""
    cores, rank = _cores(), int(os.environ.get("LOCAL_RANK", "0"))
    if not case.alike and threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cores[rank % len(cores)]})  # before torch starts threads, which inherit it
    import torch
    from step_times import make_step, noise_config

    from iccld.labels import LabelSpace

    torch.set_num_threads(threads)
    settings = {"adaptation.self_aligned": 1.0, "adaptation.share_at_one": 0.0} if case.alike else {}
    config = noise_config("compact", (case.height, 2 * case.height), case.batch, {"device": "cpu"} | settings)
    space = LabelSpace.from_names("numbered", [f"class {n}" for n in range(case.classes)])
    empty = peak_gib()
    step = make_step(config, space)
    for _ in range(2):
        step()
    fabric, times = step.update.fabric, []
    fabric.barrier()
    for _ in range(case.repeats):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    fabric.barrier()
    # The work of a rank is random. A median would ignore the steps in which one rank waits for another.
    seconds = statistics.median(times) if case.alike else statistics.fmean(times)
    return {
        "seconds": round(seconds, 4),
        "images_per_s": round(fabric.world_size * case.batch / seconds, 3),
        "empty_gib": round(empty, 4),
        "gib": round(peak_gib() - empty, 4),
    }


def _exponent(cases: list[dict[str, Any]], key: str) -> float:
    """Returns the exponent of a quantity in the size: the least-squares slope of the logarithms."""
    x, y = ([math.log(case[name]) for case in cases] for name in ("size", key))
    return round(statistics.linear_regression(x, y).slope, 4)


def _bars(
    rows: Mapping[str, list[dict[str, Any]]], exponents: Mapping[str, Mapping[str, float]]
) -> dict[str, tuple[float, str]]:
    """Returns name → (value, bar of the value)."""
    bars = {}
    if "pixels" in exponents:
        bars["exponent of time in pixels"] = (exponents["pixels"]["time"], f"≤ {STEEPEST}")
    ranks = rows.get("ranks", [])
    if len(ranks) > 1:
        speedup = ranks[-1]["images_per_s"] / ranks[0]["images_per_s"]
        bars["images a second, two ranks / one"] = (round(speedup, 3), f"≥ {LEAST_OF_TWO}")
    return bars


if __name__ == "__main__":
    main()
