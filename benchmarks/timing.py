"""Timing for the benchmarks: tasks run in turn, so that other load on the machine affects all tasks equally."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

import torch

WARM_UP = 2


def describe_command(script: str) -> str:
    """Returns the running command without the output files, to state the origin of measurements."""
    words = sys.argv[1:]
    kept = [w for i, w in enumerate(words) if not {w, *words[max(0, i - 1) : i]} & {"--json", "--plot"}]
    return " ".join(["python", f"benchmarks/{script}", *kept])


def take_turns(
    work: Mapping[str, Callable[[], object]], repeats: int, *, warm_up: int = WARM_UP, device: str = "cpu"
) -> dict[str, list[float]]:
    """Times several tasks in turn and returns the seconds of each repeat of each task.

    Args:
        work: Name → function to time.
        repeats: Number of timed rounds.
        warm_up: Number of rounds before, which are not timed.
        device: Device whose queue must be empty before the clock is read, ``cpu`` or ``cuda``.
    """
    times: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(warm_up + repeats):
        for name, do in work.items():
            seconds = seconds_of(do, device)
            if repeat >= warm_up:
                times[name].append(seconds)
    return times


def fastest(work: Callable[[], object], repeats: int, device: str = "cpu") -> float:
    """Returns the seconds of the fastest repeat after the warm-up."""
    return min(take_turns({"": work}, repeats, device=device)[""])


def seconds_of(work: Callable[[], object], device: str = "cpu") -> float:
    """Returns the seconds of one call, including the work that the call puts into the device's queue."""
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: str) -> None:
    """Waits until a GPU has finished all queued work. Other devices work synchronously."""
    if device == "cuda":
        torch.cuda.synchronize()
