"""Time of a training step per method: ``python benchmarks/step_times.py benchmarks/plans/development.toml``.

Takes training steps of all variants of a plan in turn within one process, on noise at the plan's sizes. Measured are
steps before self-training, and steps with all branches of the method. Means are reported instead of medians, because
the number of samples with a second pass is random in each step. The first variant is the reference of the comparison.

``make results`` writes the step times to the tables and derives training times. The runs' own times are only a
fallback, because the runs took place on several machines with other work.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from timing import take_turns

from iccld.bench.plan import Plan, Task, read_plan
from iccld.bench.results import Pace
from iccld.build import build_discriminator, build_fabric, build_method, build_model
from iccld.config import TrainConfig, with_settings
from iccld.files import write_json
from iccld.labels import LabelSpace
from iccld.presets import get_preset
from iccld.reporting.environment import describe_code, describe_machine
from iccld.run_data import build_label_space
from iccld.training.update import Item, Update

OUT = Path(__file__).parent / "step_times"


def main() -> None:
    """Measures every task of a plan, prints tables and writes a JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plan", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the figures, one JSON file a plan")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    plan = read_plan(arguments.plan)
    paces = {name: _measure(plan, task, arguments.repeats) for name, task in plan.tasks.items()}
    seconds = {task: {name: pace._asdict() for name, pace in found.items()} for task, found in paces.items()}
    facts = {
        "command": f"python benchmarks/step_times.py {arguments.plan} --threads {arguments.threads} "
        f"--repeats {arguments.repeats}",
        **describe_code(),
        "machine": describe_machine(arguments.threads, "cpu"),
        "repeats": arguments.repeats,
        "seconds": seconds,
    }
    print(f"written: {write_json(arguments.out / f'{plan.name}.json', facts)}")


def _measure(plan: Plan, task: Task, repeats: int) -> Mapping[str, Pace]:
    runs = plan.runs([f"{task.name}/*/{plan.seeds[0]}"])
    steps = {f"{r.variant.name} {on}": make_step(r.config, adapting=on) for r in runs for on in (False, True)}
    times = take_turns(steps, repeats)
    means = {name: round(statistics.fmean(values), 4) for name, values in times.items()}
    paces = {r.variant.name: Pace(*(means[f"{r.variant.name} {on}"] for on in (False, True))) for r in runs}
    print(task.title)
    first = next(iter(paces.values())).adapting
    for name, pace in paces.items():
        print(
            f"{plan.variants[name].title:>60}: {1e3 * pace.warmup:7.1f} ms, then {1e3 * pace.adapting:7.1f} ms  "
            f"{pace.adapting / first:5.2f} × the first"
        )
    return paces


def noise_config(
    backbone: str, crop: tuple[int, int], batch_size: int, settings: Mapping[str, object] | None = None
) -> TrainConfig:
    """Returns the demo's configuration, changed to random weights, 19 classes and a given image size.

    Args:
        backbone: Name of the backbone, as in ``iccld train``.
        crop: Height and width in pixels.
        batch_size: Number of images of each domain.
        settings: Further changes: dotted name → value.
    """
    sizes = {
        "model.backbone": backbone,
        "model.pretrained": "no",
        "data.label_space": "cityscapes19",
        "data.crop": crop,
        "data.batch_size": batch_size,
    }
    return with_settings(get_preset("demo").config, sizes | dict(settings or {}))


class Step:
    """A callable that takes a training step on fixed images: an update of segmenter, teacher and any discriminator.

    Attributes:
        update: Update of the training loop, which the step calls.
        index: Index of the next step, which seeds random numbers. The same index gives the same random numbers.
        first: Number of the step with index 0 in the run.
    """

    def __init__(self, update: Update, items: Sequence[Item], first: int) -> None:
        self.update, self.index, self.first = update, 0, first
        self._items = items

    def __call__(self) -> None:
        """Takes a step."""
        self.update(self.first + self.index, self._items)
        self.update.first_failure()
        self.index += 1


def make_step(config: TrainConfig, space: LabelSpace | None = None, *, adapting: bool = True) -> Step:
    """Builds networks and noise images at the sizes of a configuration, and returns a step to call.

    Args:
        config: Configuration of the run.
        space: Classes of the model. If ``None``, the classes of the configuration.
        adapting: Whether self-training with all branches of the method has begun.
    """
    adaptation, never = replace(config.adaptation, start=0.0 if adapting else 1.0), sys.maxsize
    config = replace(config, adaptation=adaptation, log_every=never, threads=torch.get_num_threads())
    space = space or build_label_space(config.data)
    torch.manual_seed(config.seed)
    method = build_method(config, space)
    update = Update(
        config,
        fabric=build_fabric(config),
        model=build_model(config, space),
        discriminator=build_discriminator(config, method, space),
        method=method,
    )
    update.set_up()
    size = (config.data.batch_size, *config.data.crop)
    images = torch.randint(0, 256, (2, size[0], 3, *size[1:]), dtype=torch.uint8)
    names = ["noise"] * size[0]
    valid = torch.ones(size, dtype=torch.bool)
    labels = torch.randint(0, len(space), size)
    labeled = {"image": images[0], "label": labels, "valid": valid, "name": names}
    target = {"image": images[1], "valid": valid, "name": names}
    items = [(labeled, target if method.uses_target else None)] * config.optim.accumulation
    # At the end of a run, the adversary's warm-up is over and the learning rate is near zero, since images are noise.
    return Step(update, items, config.steps - 1 if adapting else 0)


if __name__ == "__main__":
    main()
