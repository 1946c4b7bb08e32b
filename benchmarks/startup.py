"""Startup time: ``python benchmarks/startup.py --json out.json``.

Times whole processes in turn: ``iccld predict`` for one 128×256 image with a model of random weights, ``iccld --help``,
and as reference ``python -c "import torch, transformers"``.

Bar: the prediction takes at most 1.5 times the import.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from timing import take_turns

from iccld.files import write_json
from iccld.labels import CITYSCAPES19
from iccld.models.iccld import ICCLD
from iccld.reporting.environment import describe_code, describe_machine

BAR = 1.5
REFERENCE = "import torch, transformers"


def main() -> None:
    """Measures the times and prints a table. With ``--json``, writes a JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="compact")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, default=None, help="write the figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model, image = Path(folder) / "model", Path(folder) / "image.png"
        ICCLD(CITYSCAPES19, backbone=arguments.backbone).save_pretrained(model)
        cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 256, (128, 256, 3), dtype=np.uint8))
        iccld = [sys.executable, "-m", "iccld"]
        predict = [
            *iccld,
            "predict",
            str(model),
            str(image),
            "--out",
            str(Path(folder) / "out"),
            "--threads",
            "1",
        ]
        seconds = _measure(
            {
                REFERENCE: [sys.executable, "-c", REFERENCE],
                "iccld predict": predict,
                "iccld --help": [*iccld, "--help"],
            },
            arguments.repeats,
        )
    facts = {
        "command": f"python benchmarks/startup.py --backbone {arguments.backbone} --repeats {arguments.repeats}",
        **describe_code(),
        "machine": describe_machine(1, "cpu"),
        "backbone": arguments.backbone,
        "median_s": {name: round(value, 3) for name, value in seconds.items()},
        "predict_to_reference": round(seconds["iccld predict"] / seconds[REFERENCE], 3),
    }
    for name, value in seconds.items():
        print(f"{name:>28}: {value:6.2f} s  {value / seconds[REFERENCE]:5.2f} × {REFERENCE}")
    print(f"predict / import: {facts['predict_to_reference']} (bar: {BAR})")
    if arguments.json is not None:
        print(f"written: {write_json(arguments.json, facts)}")


def _measure(commands: Mapping[str, Sequence[str]], repeats: int) -> dict[str, float]:
    """Returns the median seconds of each process. Processes run in turn, after a round that fills the disk's cache."""
    run = partial(subprocess.run, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    times = take_turns({name: partial(run, words) for name, words in commands.items()}, repeats, warm_up=1)
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    main()
