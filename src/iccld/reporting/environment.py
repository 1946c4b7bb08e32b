"""Environment in which results were computed: commit, machine, versions and command line."""

from __future__ import annotations

import datetime
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from iccld import __version__
from iccld.machine import read_text


def describe_environment(threads: int, device: str, precision: str) -> dict[str, Any]:
    """Returns the environment of this process for a report: commit, machine, versions, command and date.

    ``threads`` is the number of torch's threads. If ``device`` or ``precision`` is ``auto``, the report contains the
    selected device or precision.
    """
    from iccld.compute import choose_device, uses_bf16

    device = choose_device(device).partition(":")[0]
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command_line(),
        "iccld": __version__,
        **describe_code(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **describe_machine(threads, device),
        "ranks": num_ranks(),
        "precision": "bf16" if uses_bf16(device, precision) else "fp32",
    }


def resumed_environment(first: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a run's environment with a new entry for a resumption.

    ``first`` is the environment at the start of the run, and ``now`` is the environment at the resumption.
    """
    entry = {key: now[key] for key in ("date", "command", "commit", "changed")}
    return {**first, "resumed": [*first.get("resumed", []), entry]}


def num_ranks() -> int:
    """Returns the number of processes that train together: ``WORLD_SIZE``, which ``torchrun`` sets, or 1 by default."""
    value = os.environ.get("WORLD_SIZE", "")
    return int(value) if value.isdecimal() else 1


def command_line() -> str:
    """Returns the shell command that continues this process, with ``torchrun`` if there are several ranks.

    ``--stop-at``, with which the command would stop again, is left out.
    """
    before = ["", *sys.argv[1:]]
    is_stop = [word == "--stop-at" or last == "--stop-at" for last, word in pairwise(before)]
    given = zip(sys.argv[1:], is_stop, strict=True)
    words = [word for word, stop in given if not stop and not word.startswith("--stop-at=")]
    program = Path(sys.argv[0])
    is_package = program.name == "__main__.py"
    name = program.parent.name if is_package else program.name
    if num_ranks() > 1:
        module = ["-m", "iccld"] if name == "iccld" else [name]
        return shlex.join(["torchrun", "--nproc-per-node", str(num_ranks()), *module, *words])
    start = ["python", "-m"] if is_package and name == "iccld" else []
    return shlex.join([*start, name, *words])


def describe_machine(threads: int, device: str) -> dict[str, Any]:
    """Returns processor, threads, device, torch version and GPU. The names of host and user are not included."""
    import torch

    model = re.search(r"^model name\s*:\s*(.*)", read_text("/proc/cpuinfo"), re.MULTILINE)
    name = model[1].strip() if model else platform.processor() or platform.machine()
    facts = {"cpu": name, "cores": os.cpu_count(), "threads": threads, "device": device}
    gpu = {"gpu": torch.cuda.get_device_name()} if device == "cuda" else {}
    return {**facts, "torch": torch.__version__, **gpu}


def describe_code() -> dict[str, Any]:
    """Returns the git commit of this package, and whether files were changed since this commit.

    Both values are ``None`` if the package is not in a checkout of its git repository.
    """

    def git(*words: str) -> str | None:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    # An installed package can lie inside another git repository, whose commit does not describe the package.
    if git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return {"commit": None, "changed": None}
    commit, changes = git("rev-parse", "--short", "HEAD"), git("status", "--porcelain", "--", "..")
    return {"commit": commit, "changed": None if changes is None else bool(changes)}
