"""Check of the default number of threads: ``python benchmarks/threads.py --json FILE``.

Trains the demo for some steps and predicts some images, in turn with the default number of threads, with one thread and
with two threads. The measurement is repeated on an idle machine, and beside one and two processes that keep a core busy
each. Each run is a separate process. ETA is a ratio: the remaining time in the first progress line (at 5 % of the
steps), with default threads, divided by the actual remaining time.

Bars: the default takes at most 1.1 times the time of the better of one and two threads; the ETA is within 30 % of 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from timing import describe_command

from iccld.files import write_json
from iccld.reporting.environment import describe_code, describe_machine
from iccld.training.tracking import read_metrics

MODES = (0, 1, 2)
SLOWER, ETA_OFF = 1.1, 0.3
_LEFT = re.compile(r"step (\d+)/\d+ .*?  (?:(\d+):)?(?:(\d+):)?(\d+)(?: s)? left")


@contextlib.contextmanager
def busy(number: int) -> Iterator[None]:
    """Runs processes that keep a core busy each, until the context is left."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def train(threads: int, steps: int, folder: Path, words: list[str]) -> dict[str, Any]:
    """Runs one training of the demo in a process.

    Args:
        threads: Number of threads, 0 for the default.
        steps: Number of training steps.
        folder: Folder for the run and the cache of scenes.
        words: Further flags of ``iccld train``.

    Returns:
        Seconds of the steps and of the whole command, chosen threads, and the first ETA divided by the actual time.
    """
    out = folder / "run"
    command = [
        sys.executable,
        "-m",
        "iccld",
        "train",
        "demo",
        "--steps",
        str(steps),
        "--threads",
        str(threads),
    ]
    command += ["--log-every", "5", "--data.source-count", "32", "--data.target-count", "32"]
    command += [
        "--data.val-count",
        "16",
        "--data.scene-cache",
        str(folder / "scenes"),
        "--out",
        str(out),
        *words,
    ]
    begun = time.monotonic()
    process = subprocess.Popen(
        command, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    told: tuple[float, float] | None = None
    for line in process.stderr:
        match = _LEFT.search(line)
        if match and told is None and int(match[1]) < steps:
            parts = [int(part) for part in match.groups()[1:] if part]
            told = time.monotonic(), sum(part * 60**place for place, part in enumerate(reversed(parts)))
    if process.wait():
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    end = time.monotonic()
    rows = read_metrics(out / "metrics.csv")
    paces = [float(row["train/seconds_per_step"]) for row in rows if "train/seconds_per_step" in row]
    chosen = json.loads((out / "threads.json").read_text(encoding="utf-8"))["chosen"]
    subprocess.run(["rm", "-rf", str(out)], check=True)
    return {
        "seconds": 5 * sum(paces),
        "command_seconds": end - begun,
        "threads": [entry["threads"] for entry in chosen],
        "eta": None if told is None else told[1] / (end - told[0]),
    }


def predict(threads: int, images: int) -> dict[str, Any]:
    """Runs predictions in a process, and returns the seconds of all predictions after the first, and the threads."""
    words = [sys.executable, __file__, "--case", str(threads), "--images", str(images)]
    done = subprocess.run(words, env=_environment(), stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _predict_here(threads: int, images: int) -> None:
    import numpy as np
    import torch

    from iccld.labels import CAMVID11
    from iccld.models.iccld import ICCLD
    from iccld.threads import use_threads

    number = use_threads(threads)
    model = ICCLD(CAMVID11).eval()
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    model.predict(image)
    begun = time.monotonic()
    for _ in range(images):
        model.predict(image)
    assert torch.get_num_threads() == number
    print(json.dumps({"seconds": time.monotonic() - begun, "threads": [number]}))


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}


def measure(kind: str, beside: int, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measures all numbers of threads in turn, beside a number of busy processes.

    Args:
        kind: Work to measure, ``train`` or ``predict``.
        beside: Number of busy processes.
        options: Flags of the command.
        folder: Folder for the runs.
    """
    runs: dict[int, list[dict[str, Any]]] = {mode: [] for mode in MODES}
    with busy(beside):
        for round_number in range(options.rounds):
            for mode in MODES[round_number % 3 :] + MODES[: round_number % 3]:
                run = (
                    train(mode, options.steps, folder, options.more)
                    if kind == "train"
                    else predict(mode, options.images)
                )
                runs[mode].append(run)
                print(f"{kind}, {beside} busy, --threads {mode}: {run}", file=sys.stderr, flush=True)
    seconds = {mode: statistics.median(run["seconds"] for run in of_mode) for mode, of_mode in runs.items()}
    etas = [run["eta"] for run in runs[0] if run.get("eta") is not None]
    return {
        "kind": kind,
        "busy": beside,
        "seconds": {str(mode): round(value, 3) for mode, value in seconds.items()},
        "chosen": [run["threads"] for run in runs[0]],
        "ratio": round(seconds[0] / min(seconds[1], seconds[2]), 3),
        "eta": [round(eta, 3) for eta in etas],
        "runs": runs,
    }


def table(results: list[dict[str, Any]]) -> str:
    """Returns the results as a Markdown table."""
    lines = ["| work | busy processes | default s | 1 thread s | 2 threads s | chosen | ratio | ETA / time |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for r in results:
        chosen = ", ".join("→".join(map(str, numbers)) for numbers in r["chosen"])
        etas = f"{min(r['eta']):.2f}–{max(r['eta']):.2f}" if r["eta"] else "–"
        values = " | ".join(f"{r['seconds'][str(mode)]:.1f}" for mode in MODES)
        bold = "**" if r["ratio"] > SLOWER else ""
        lines.append(
            f"| {r['kind']} | {r['busy']} | {values} | {chosen} | {bold}{r['ratio']:.2f}{bold} | {etas} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Measures the times and prints a table. Returns 0 if the bars are met, otherwise 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60, help="of each training")
    parser.add_argument("--images", type=int, default=30, help="of each prediction")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each mode in each situation")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2], help="busy processes beside")
    parser.add_argument("--kinds", nargs="+", default=["train", "predict"], choices=["train", "predict"])
    parser.add_argument("--more", nargs=argparse.REMAINDER, default=[], help="further flags of the training")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case is not None:
        _predict_here(options.case, options.images)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        results = [
            measure(kind, beside, options, Path(folder)) for kind in options.kinds for beside in options.busy
        ]
    facts = {
        "command": describe_command("threads.py"),
        **describe_code(),
        "machine": describe_machine(0, "cpu"),
    }
    if options.json:
        write_json(options.json, {**facts, "results": results})
    print(table(results))
    worst = max(r["ratio"] for r in results)
    off = max((abs(eta - 1) for r in results for eta in r["eta"]), default=0.0)
    print(
        f"\nworst ratio {worst:.2f} (bar {SLOWER}); ETA off by {100 * off:.0f} % at most (bar {100 * ETA_OFF:.0f} %)"
    )
    return 0 if worst <= SLOWER and off <= ETA_OFF else 1


if __name__ == "__main__":
    sys.exit(main())
