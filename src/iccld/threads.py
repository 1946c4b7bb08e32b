"""Choice of the number of CPU threads by a timed trial.

At the end of every operation, all threads wait for the slowest thread. If other programs use the same cores, several
threads can therefore be slower than one thread (docs/performance.md has measurements).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from statistics import fmean

import cv2
import torch
from torch.nn import functional as F

from iccld.errors import InputError
from iccld.machine import usable_cores

_ROUNDS, _TIE, _HOPELESS = 4, 1.05, 2.0


@dataclass(frozen=True)
class Choice:
    """Chosen number of threads.

    Attributes:
        threads: The chosen number.
        seconds: Mean duration of ``work`` in the trial, in seconds, by number of threads. Empty if there was no trial.
        reason: Explanation of the number if there was no trial.
    """

    threads: int
    seconds: Mapping[int, float]
    reason: str = ""

    @property
    def why(self) -> str:
        """Explanation of the choice for messages, such as ``a trial took 0.41 s with 1 thread, 0.29 s with 2``."""
        times = (f"{t:.2g} s with {n}{' thread' if n == 1 else ''}" for n, t in self.seconds.items())
        return f"a trial took {', '.join(times)}" if self.seconds else self.reason


def set_threads(number: int) -> None:
    """Sets the number of torch threads. Disables OpenCV's threads, because they would compete with torch's threads.

    Raises ``InputError`` if the number is not from 1 to 4096.
    """
    if not 1 <= number <= 4096:
        raise InputError(f"--threads is {number}; give 0 (automatic) or up to 4096")
    torch.set_num_threads(number)
    cv2.setNumThreads(0)


def most_threads(num_processes: int = 1) -> int:
    """Returns the maximum number of threads per process.

    The maximum is ``OMP_NUM_THREADS`` if the user has set this variable. Otherwise, it is the number of usable cores
    divided by ``num_processes``.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    # torchrun sets the variable to 1 if the user has not set it. The variable is therefore ignored under torchrun.
    if asked.isdecimal() and int(asked) and "TORCHELASTIC_RUN_ID" not in os.environ:
        return int(asked)
    return max(1, usable_cores() // num_processes)


def choose_threads(
    work: Callable[[], object], most: int, *, helpers: int = 0, budget: float = 10.0
) -> Choice:
    """Measures ``work`` with 1, ``most // 2``, ``most - helpers`` and ``most`` threads, and sets the fastest number.

    If several numbers are about equally fast, the lowest of them is used. The trials alternate between the numbers, so
    that other load on the machine affects all numbers equally.

    Args:
        work: Computation to measure. It should be similar to the computation for which the threads are used.
        most: Maximum number of threads.
        helpers: Number of processors that helper processes need.
        budget: Time in seconds after which no further round of trials starts.
    """
    numbers = sorted({1, max(1, most // 2), max(1, most - helpers), most})
    if len(numbers) == 1:
        set_threads(most)
        return Choice(most, {}, _why_not(most))
    start = time.monotonic()
    for number in numbers:  # warm-up, not timed
        _trial(work, number)
    times = {number: [_trial(work, number)] for number in numbers}
    for _ in range(_ROUNDS - 1):
        if time.monotonic() - start > budget:
            break
        limit = _HOPELESS * min(map(fmean, times.values()))
        for number in [number for number in numbers if fmean(times[number]) < limit]:
            times[number].append(_trial(work, number))
    means = {number: fmean(values) for number, values in times.items()}
    chosen = next(number for number in numbers if means[number] <= _TIE * min(means.values()))
    set_threads(chosen)
    return Choice(chosen, means)


def _trial(work: Callable[[], object], number: int) -> float:
    set_threads(number)
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def use_threads(threads: int, device_type: str = "cpu") -> int:
    """Sets the number of threads for prediction and returns the number.

    If ``threads`` is 0 and the device is a CPU, a short trial determines the number. The trial runs once per process,
    and the number is printed on stderr. If ``threads`` is 0 on another device, torch's number of threads is not
    changed.
    """
    if not threads and device_type != "cpu":
        cv2.setNumThreads(0)
        return torch.get_num_threads()
    threads = threads or _for_prediction(most_threads()).threads
    set_threads(threads)
    return threads


@cache
def _for_prediction(most: int) -> Choice:
    choice = choose_threads(_small_work(), most, budget=0.5)
    if choice.seconds:
        print(f"threads: {choice.threads} ({choice.why}; --threads sets another number)", file=sys.stderr)
    return choice


def _small_work() -> Callable[[], object]:
    """Returns a function that computes eight small convolutions."""
    image = torch.full((1, 32, 64, 128), 0.5).contiguous(memory_format=torch.channels_last)
    weight = torch.full((32, 32, 3, 3), 0.01).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def work() -> None:
        state = image
        for _ in range(8):
            state = F.relu(F.conv2d(state, weight, padding=1))

    return work


def _why_not(most: int) -> str:
    cores = usable_cores()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return f"{cores} usable cores, divided by the ranks"
    if os.environ.get("OMP_NUM_THREADS") == str(most) and cores > most:
        return "OMP_NUM_THREADS"
    return f"{cores} usable core{'s' if cores > 1 else ''}"
