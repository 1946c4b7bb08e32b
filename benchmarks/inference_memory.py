"""Peak memory of prediction: ``python benchmarks/inference_memory.py --json FILE``.

Each case runs in a separate process. The process builds a network with random weights, predicts one image of noise in
fp32, and reports the peak of its resident memory, including Python and torch.

Bars: ICCLD needs no more memory than SegFormer with the same backbone (``benchmarks/references.py``), and at most
1.5 GiB for 2048×1024 pixels with a sliding window.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from processes import peak_gib, run_case

from iccld.files import write_json
from iccld.reporting.environment import describe_code, describe_machine

BACKBONES = ("mit_b0", "mit_b2", "mit_b5")
WINDOW = (512, 1024)
WINDOW_BAR = 1.5


@dataclass(frozen=True)
class Case:
    """A case to measure: backbone, network, height and width in pixels, noise draws, and use of a sliding window."""

    backbone: str
    network: str
    size: tuple[int, int] = (512, 1024)
    draws: int = 1
    window: bool = False

    @property
    def title(self) -> str:
        """Returns the name of the case in the table."""
        extras = (f", {self.draws} draws" if self.draws > 1 else "") + (
            ", sliding window" if self.window else ""
        )
        return f"{self.backbone}, {self.network}, {self.size[0]}×{self.size[1]}{extras}"


def cases(backbone: str) -> list[Case]:
    """Returns the cases of a backbone. The first case, SegFormer, is the reference for the other cases."""
    light = Case(backbone, "ICCLD with light steps")
    return [
        Case(backbone, "SegFormer"),
        Case(backbone, "ICCLD"),
        light,
        replace(light, draws=8),
        replace(light, size=(1024, 2048), window=True),
        Case(backbone, "ICCLD", size=(1024, 2048), window=True),
    ]


def main() -> None:
    """Measures every case and prints a table. With ``--json``, writes a JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backbones", nargs="+", default=BACKBONES, choices=BACKBONES)
    parser.add_argument("--json", type=Path, default=None, help="write the figures here")
    parser.add_argument("--case", default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case is not None:
        print(json.dumps(_predict(Case(**json.loads(arguments.case)), arguments.threads)))
        return
    rows = []
    for backbone in arguments.backbones:
        first = None
        for case in cases(backbone):
            row = asdict(case) | run_case(__file__, asdict(case), threads=arguments.threads)
            rows.append(row)
            first = first or row["peak_gib"]
            bar = f"≤ {WINDOW_BAR:.2f}" if case.window else f"≤ {first:.2f}"
            print(f"{case.title:<62}{row['peak_gib']:>6.2f} GiB  (bar: {bar})", flush=True)
    if arguments.json is not None:
        facts = {
            "command": f"python benchmarks/inference_memory.py --threads {arguments.threads}",
            **describe_code(),
            "machine": describe_machine(arguments.threads, "cpu"),
            "precision": "fp32",
            "cases": rows,
        }
        print(f"written: {write_json(arguments.json, facts)}")


def _predict(case: Case, threads: int) -> dict[str, float]:
    import numpy as np
    import torch
    from references import SegFormer, segment

    from iccld.labels import CITYSCAPES19
    from iccld.models.iccld import ICCLD

    torch.set_num_threads(threads)
    images = np.random.default_rng(0).integers(0, 256, (1, *case.size, 3), dtype=np.uint8)
    if case.network == "SegFormer":
        segment(SegFormer(case.backbone, len(CITYSCAPES19)).eval(), images, "fp32")
    else:
        model = ICCLD(CITYSCAPES19, backbone=case.backbone, light_steps="light" in case.network)
        model = model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        model.predict(images[0], draws=case.draws, window=WINDOW if case.window else None, precision="fp32")
    return {"peak_gib": round(peak_gib(), 3)}


if __name__ == "__main__":
    main()
