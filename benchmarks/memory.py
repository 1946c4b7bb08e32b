"""Predicted and measured peak memory of training: ``python benchmarks/memory.py --json FILE``.

Each case runs in a separate process. The process computes the memory that ``iccld train`` would announce, takes a few
training steps on noise with random weights, and reports the peak of its resident memory. Data loaders are not counted,
because they run in worker processes.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from processes import peak_gib, run_case

from iccld.compute import uses_bf16
from iccld.files import write_json
from iccld.reporting.environment import describe_code, describe_machine

STEPS = 3


@dataclass(frozen=True)
class Case:
    """A case to measure: backbone, crop in pixels, batch size, mixed domain with adversary or not, denoiser width."""

    backbone: str
    crop: tuple[int, int]
    batch_size: int
    paper: bool = False
    width: int = 96

    @property
    def title(self) -> str:
        """Returns the name of the case in the table."""
        return f"{self.backbone}, {self.crop[0]}×{self.crop[1]}, batch {self.batch_size}" + (
            ", mixed domain and adversary" if self.paper else ""
        )


CASES = (
    Case("compact", (128, 256), 4),
    Case("compact", (128, 256), 4, paper=True),
    Case("compact", (256, 512), 4),
    Case("efficientnet_lite0", (160, 224), 4),
    Case("efficientnet_lite0", (256, 512), 4),
    Case("mit_b0", (256, 512), 2),
    Case("mit_b2", (256, 512), 2),
    Case("mit_b2", (512, 512), 2),
    Case("mit_b2", (512, 512), 2, paper=True),
    Case("mit_b5", (512, 512), 1, width=192),
)


def main() -> None:
    """Measures every case and prints a table. With ``--json``, writes a JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="only the cases whose title has this text")
    parser.add_argument("--json", type=Path, default=None, help="write the figures here")
    parser.add_argument("--case", default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case is not None:
        print(json.dumps(_train(Case(**json.loads(arguments.case)), arguments.threads)))
        return
    rows = []
    print(f"{'':<62}{'predicted':>10}{'measured':>10}   ratio")
    for case in (case for case in CASES if arguments.only in case.title):
        row = asdict(case) | run_case(__file__, asdict(case), threads=arguments.threads)
        rows.append(row)
        ratio = row["predicted_gib"] / row["measured_gib"]
        print(
            f"{case.title:<62}{row['predicted_gib']:>10.2f}{row['measured_gib']:>10.2f}{ratio:>8.2f}",
            flush=True,
        )
    if arguments.json is not None:
        facts = {
            "command": f"python benchmarks/memory.py --threads {arguments.threads}",
            **describe_code(),
            "machine": describe_machine(arguments.threads, "cpu"),
            "precision": "bf16" if uses_bf16("cpu", "auto") else "fp32",
            "steps": STEPS,
            "cases": rows,
        }
        print(f"written: {write_json(arguments.json, facts)}")


def _train(case: Case, threads: int) -> dict[str, float]:
    import torch
    from step_times import make_step, noise_config

    from iccld.build import build_fabric, build_model
    from iccld.commands.train_checks import num_branches_of
    from iccld.run_data import build_label_space
    from iccld.training.rehearsal import estimate_step

    torch.set_num_threads(threads)
    settings: dict[str, object] = {"model.width": case.width}
    if case.paper:
        settings |= {"adaptation.mixing": "classmix", "adaptation.adversarial_weight": 0.02}
    config = noise_config(case.backbone, case.crop, case.batch_size, settings)
    config = replace(config, threads=threads, device="cpu")
    model = build_model(config, build_label_space(config.data))
    with build_fabric(config).autocast():
        estimate = estimate_step(
            model, batch_size=case.batch_size, num_branches=num_branches_of(config), crop=config.data.crop
        )
    del model
    step = make_step(config)
    for _ in range(STEPS):
        step()
    return {
        "parameters": estimate.num_parameters,
        "predicted_gib": round(estimate.peak_bytes / 2**30, 3),
        "measured_gib": round(peak_gib(), 3),
    }


if __name__ == "__main__":
    main()
