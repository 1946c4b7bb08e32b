"""Stores a finished run as the built-in model ``streets``.

    iccld train streets --out runs/streets
    python benchmarks/make_streets.py runs/streets src/iccld/weights/streets

Matrices and kernels are stored in bfloat16, so that the file has half of the size. Vectors, such as the statistics of
batch normalization, stay in float32. The model card ``README.md`` is written by hand.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from iccld.files import write_json
from iccld.models.storage import CONFIG, WEIGHTS, atomic_safetensors, read_config, write_processor
from iccld.reporting.release import without_paths


def main() -> None:
    """Writes weights and configuration, and prints the size of the weights."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("out", type=Path, help="folder of the built-in model")
    a = parser.parse_args()
    weights = {
        name: value.to(torch.bfloat16) if value.is_floating_point() and value.ndim > 1 else value
        for name, value in load_file(a.run / WEIGHTS).items()
    }
    a.out.mkdir(parents=True, exist_ok=True)
    path = atomic_safetensors(a.out / WEIGHTS, lambda temporary: save_file(weights, temporary))
    write_json(a.out / CONFIG, without_paths(read_config(a.run)))
    write_processor(a.out)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
