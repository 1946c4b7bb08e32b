"""Measurement of benchmark cases in separate processes, so that the memory of one case does not affect another case."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_GIB = 2**30


def run_case(script: str, case: Mapping[str, Any], *, threads: int, num_ranks: int = 1) -> dict[str, Any]:
    """Runs ``python SCRIPT --threads N --case JSON`` and parses the last line of JSON that the script prints.

    Args:
        script: Path of the benchmark's script.
        case: Fields of the case to measure.
        threads: Number of CPU threads per process.
        num_ranks: Number of ranks. With more than one rank, the script is started by ``torchrun``.

    Returns:
        The parsed JSON object.

    Raises:
        subprocess.CalledProcessError: The process failed, or the system killed the process for lack of memory.
    """
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_ranks)]
    command = [sys.executable, *(launcher if num_ranks > 1 else []), script]
    command += ["--threads", str(threads), "--case", json.dumps(case)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    lines = [line for line in output.splitlines() if line.startswith("{")]  # the launcher prints too
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def peak_gib() -> float:
    """Returns the peak resident memory of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10 / _GIB


def available_gib() -> float | None:
    """Returns the available memory in GiB, or ``None`` if the amount is unknown (on systems other than Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 2**10 / _GIB for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
