"""How the benchmarks take times: pieces of work in turn, so that a busy moment of the machine hits all alike."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

import torch

WARM_UP = 2


def describe_command(script: str) -> str:
    """The command that is running, for the figures' origin; where they are written to is no part of it."""
    words = sys.argv[1:]
    kept = [w for i, w in enumerate(words) if not {w, *words[max(0, i - 1) : i]} & {"--json", "--plot"}]
    return " ".join(["python", f"benchmarks/{script}", *kept])


def take_turns(
    work: Mapping[str, Callable[[], object]], repeats: int, *, warm_up: int = WARM_UP, device: str = "cpu"
) -> dict[str, list[float]]:
    """Seconds of each repeat of each piece of work.

    Args:
        work: what is done, by name.
        repeats: rounds that count.
        warm_up: rounds before them that do not.
        device: whose queue has to be empty before the clock is read.
    """
    times: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(warm_up + repeats):
        for name, do in work.items():
            seconds = seconds_of(do, device)
            if repeat >= warm_up:
                times[name].append(seconds)
    return times


def fastest(work: Callable[[], object], repeats: int, device: str = "cpu") -> float:
    """Seconds of the fastest repeat, the first ones aside."""
    return min(take_turns({"": work}, repeats, device=device)[""])


def seconds_of(work: Callable[[], object], device: str = "cpu") -> float:
    """Seconds that one call takes, with all that it has put into the device's queue."""
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: str) -> None:
    """Waits until a GPU has done what it was told; other devices are never behind."""
    if device == "cuda":
        torch.cuda.synchronize()
