"""Where figures come from: the commit, the machine, the versions and the command line."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from iccld import __version__


def describe_environment(threads: int, device: str, precision: str) -> dict[str, Any]:
    """All that a report says of where and how it was made: code, machine, versions, command and date.

    Args:
        threads: CPU threads of torch.
        device: cpu, cuda or mps.
        precision: bf16 or fp32.
    """
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command_line(),
        "iccld": __version__,
        **describe_code(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **describe_machine(threads, device),
        "precision": precision,
    }


def command_line() -> str:
    """The command of this process as the user would type it again."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py" and program.parent.name == "iccld":
        return shlex.join(["python", "-m", "iccld", *sys.argv[1:]])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return shlex.join([name, *sys.argv[1:]])


def describe_machine(threads: int, device: str) -> dict[str, Any]:
    """What the figures were measured on; no names of hosts or users."""
    import torch

    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    facts = {
        "cpu": name,
        "cores": os.cpu_count(),
        "threads": threads,
        "device": device,
        "torch": torch.__version__,
    }
    if device == "cuda":
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def describe_code() -> dict[str, Any]:
    """The commit of this package's checkout, and whether files differ from it; nulls outside of one."""
    nothing = {"commit": None, "changed": None}

    def git(*words: str) -> str | None:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    # An installed package may lie inside the user's own repository, whose commit says nothing about it.
    if git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return nothing
    commit, changes = git("rev-parse", "--short", "HEAD"), git("status", "--porcelain", "--", "..")
    return {"commit": commit, "changed": None if changes is None else bool(changes)}
