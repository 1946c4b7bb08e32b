"""Cases that are measured in a process of their own each, so that one's memory is not another's."""

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
    """Runs ``python SCRIPT --threads N --case JSON`` and reads the last line of JSON that it prints.

    Args:
        script: the benchmark's own file.
        case: what it is to measure.
        threads: CPU threads of each process.
        num_ranks: more than one start as ``torchrun`` starts them.

    Raises:
        subprocess.CalledProcessError: the process failed, or the system ended it for its memory.
    """
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_ranks)]
    command = [sys.executable, *(launcher if num_ranks > 1 else []), script]
    command += ["--threads", str(threads), "--case", json.dumps(case)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    lines = [line for line in output.splitlines() if line.startswith("{")]  # the launcher speaks too
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def peak_gib() -> float:
    """The most resident memory that this process has had, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10 / _GIB


def available_gib() -> float | None:
    """Memory that is free or can be freed, in GiB; None where the system does not say (it is no Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 2**10 / _GIB for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
