"""What a training step of each method costs: ``python benchmarks/step_times.py benchmarks/plans/rivals.toml``.

Takes steps of all variants of a plan in turn within one process, on noise at the plan's sizes, with every branch of
the method at work, and keeps the mean of each: how many samples need a second pass is drawn anew at each step. The
first variant, source-only in the plan of rivals, is what the others are compared with. ``make results`` puts the
figures into the tables.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from iccld.adaptation.method import Batch
from iccld.bench.plan import Plan, Task, read_plan
from iccld.bench.results import describe_code, describe_machine
from iccld.build import build_discriminator, build_label_space, build_method, build_model
from iccld.compute import autocast
from iccld.config import TrainConfig
from iccld.files import write_json
from iccld.training.optimization import build_discriminator_optimizer, build_segmenter_optimizer

OUT = Path(__file__).parent / "step_times"
WARM_UP = 2


def main() -> None:
    """Measures every task of a plan, prints tables and writes JSON."""
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
    seconds = {name: _measure(plan, task, arguments.repeats) for name, task in plan.tasks.items()}
    facts = {
        "command": f"python benchmarks/step_times.py {arguments.plan} --threads {arguments.threads} "
        f"--repeats {arguments.repeats}",
        **describe_code(),
        "machine": describe_machine(arguments.threads, "cpu"),
        "repeats": arguments.repeats,
        "seconds": seconds,
    }
    print(f"written: {write_json(arguments.out / f'{plan.name}.json', facts)}")


def _measure(plan: Plan, task: Task, repeats: int) -> Mapping[str, float]:
    steps = {
        run.variant.name: _make_step(run.config) for run in plan.runs([f"{task.name}/*/{plan.seeds[0]}"])
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(WARM_UP + repeats):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if repeat >= WARM_UP:
                times[name].append(time.perf_counter() - start)
    means = {name: round(statistics.fmean(values), 4) for name, values in times.items()}
    print(task.title)
    first = next(iter(means.values()))
    for name, mean in means.items():
        print(f"{plan.variants[name].title:>60}: {1e3 * mean:7.1f} ms  {mean / first:5.2f} × the first")
    return means


def _make_step(config: TrainConfig) -> Callable[[], None]:
    """One update of segmenter, teacher and, where there is one, discriminator."""
    config = replace(config, adaptation=replace(config.adaptation, start=0.0))
    space = build_label_space(config.data)
    torch.manual_seed(config.seed)
    model = build_model(config, space).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    teacher = copy.deepcopy(model).eval().requires_grad_(False)
    method = build_method(config, space)
    discriminator = build_discriminator(config, method, space)
    optimizer = build_segmenter_optimizer(model, config.optim)
    size = (config.data.batch_size, *config.data.crop)
    images = [torch.rand(size[0], 3, *size[1:]).contiguous(memory_format=torch.channels_last) for _ in "st"]
    labels = torch.randint(0, len(space), size)
    valid = torch.ones(size, dtype=torch.bool)
    batch = Batch(images[0], labels, images[1], valid) if method.uses_target else Batch(images[0], labels)
    weights, followers = list(model.parameters()), list(teacher.parameters())
    of_discriminator = (
        build_discriminator_optimizer(discriminator, config.adaptation.discriminator_lr)
        if discriminator is not None
        else None
    )

    def step() -> None:
        with autocast("cpu", config.precision):
            result = method.segmenter_step(model, teacher, discriminator, batch, config.steps - 1)
        result.loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, config.optim.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(followers, weights, 1 - config.adaptation.teacher_decay)
        if result.seen is not None and of_discriminator is not None and method.adversary is not None:
            with autocast("cpu", config.precision):
                loss, _ = method.adversary.discriminate(discriminator, result.seen)
            loss.backward()
            of_discriminator.step()
            of_discriminator.zero_grad()

    return step


if __name__ == "__main__":
    main()
