"""Trace of one training update through the files of the package: ``python benchmarks/walk.py``.

Traces one update of ICCLD with all branches (``sys.setprofile``), from the batch on the device to the optimizer's step.
Prints the files in the order of the first call. For each file, prints the calls from other files. A call counts as a
switch if the calling function of this package is in another file. Library functions in between are ignored. The last
line prints the sums.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import torch
from step_times import make_step, noise_config

import iccld

ROOT = Path(iccld.__file__).resolve().parent


def walk(action: Callable[[], object]) -> tuple[list[str], Counter[tuple[str, str, str]]]:
    """Traces the calls of an action.

    Args:
        action: Function to trace.

    Returns:
        Files of this package in the order of the first call, and the number of calls between files. A key of the
        number is (calling file, called file, name of the called function).
    """
    files: dict[str, None] = {}
    calls: Counter[tuple[str, str, str]] = Counter()

    def follow(frame: FrameType, event: str, _: object) -> None:
        here = _file_of(frame) if event == "call" else None
        if here is None:
            return
        files.setdefault(here)
        caller = frame.f_back
        while caller is not None and _file_of(caller) is None:
            caller = caller.f_back
        if caller is not None and _file_of(caller) != here:
            calls[str(_file_of(caller)), here, frame.f_code.co_qualname] += 1

    sys.setprofile(follow)
    try:
        action()
    finally:
        sys.setprofile(None)
    return list(files), calls


def _file_of(frame: FrameType) -> str | None:
    path = Path(frame.f_code.co_filename)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else None


def main() -> None:
    """Prints the files, the calls and the sums."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    torch.set_num_threads(1)
    step = make_step(noise_config("compact", (64, 64), 2))
    step()  # The first step includes work that is done only once.
    files, calls = walk(step)
    for file in files:
        entered = sum(count for (_, there, _), count in calls.items() if there == file)
        print(f"{file}: {entered} calls from other files")
        for (source, there, name), count in calls.items():
            if there == file:
                print(f"    {count:3d} × {name}  from {source}")
    print(f"{len(files)} files, {sum(calls.values())} switches")


if __name__ == "__main__":
    main()
