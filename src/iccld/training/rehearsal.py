"""Trials before the first step of a run, for memory, number of threads, and duration of steps and evaluations.

The last bits of floating-point sums depend on the number of threads. A resumed run therefore uses the number that the
run's folder records. If the number changes during a run, the record contains each number with its first step.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from iccld.compute import choose_device
from iccld.config import TrainConfig
from iccld.documents import Range, build, read_json
from iccld.errors import InputError
from iccld.files import in_bytes, write_json
from iccld.machine import free_memory, release_freed_memory
from iccld.models.iccld import ICCLD
from iccld.threads import Choice, choose_threads, most_threads, set_threads
from iccld.training.display import Costs
from iccld.training.update import Update

# These constants are fitted to results of benchmarks/memory.py. ``_PROCESS_OVERHEAD`` is the memory in bytes of the
# interpreter, torch and the scratch space of CPU kernels. The memory of activations is multiplied by ``_IN_FLIGHT`` to
# account for the gradients of activations. ``_LEAST_PER_PIXEL`` is a lower bound of the bytes per pixel of a training
# batch (image, labels and activations) in bf16. In fp32, 1100 (mit_b0) to 2400 (efficientnet_lite0) were measured.
_PROCESS_OVERHEAD = 490 * 2**20
_IN_FLIGHT = 1.3
_LEAST_PER_PIXEL = 520
_COPIES = 5  # of the weights: student, gradients, two moments of the optimizer, teacher
_WORTH_A_TRIAL = 20.0
"""Minimum duration of a run in seconds for a trial evaluation, which itself takes seconds."""


def refuse_impossible(config: TrainConfig, build_model: Callable[[TrainConfig], ICCLD]) -> None:
    """Checks before any allocation that a run does not need more memory than this process may use.

    The estimate is a lower bound. For an ``auto:`` backbone, network and batch are not counted, because the size of the
    backbone is only known from its files. ``build_model`` builds the network of a configuration. Raises ``InputError``
    if the memory is too small. The message names the flags with the largest effect.
    """
    d, m = config.data, config.model
    network, batch, scenes = 0, 0, 0
    if not m.backbone.startswith("auto:"):
        with torch.device("meta"):
            model = build_model(replace(config, model=replace(m, pretrained="no")))
        network = _COPIES * 4 * sum(p.numel() for p in model.parameters())
        batch = d.batch_size * d.crop[0] * d.crop[1] * _LEAST_PER_PIXEL
    if d.source == "street_scenes" and config.method != "oracle":  # rendered scenes, 4 bytes per pixel
        scenes += 4 * d.source_count * math.prod(d.source_size or d.crop)
    if d.target == "street_scenes":
        scenes += 4 * (d.target_count + d.val_count) * math.prod(d.target_size or d.crop)
    limit: float | None = free_memory()
    if choose_device(config.device) == "cuda" and torch.cuda.is_available():
        limit, scenes = torch.cuda.get_device_properties(0).total_memory, 0
    total = network + batch + scenes
    if limit is not None and total > limit:
        size, what, flags = max(
            (network, "network", "--model.width or --model.latent-channels"),
            (batch, "batch", "--data.crop or --data.batch-size"),
            (scenes, "scenes", "the counts or sizes of the scenes"),
        )
        raise InputError(
            f"this run needs at least {in_bytes(total)} of memory ({in_bytes(size)} of it for the {what}), and this "
            f"process can have {in_bytes(int(limit))}; lower {flags}"
        )


@dataclass(frozen=True)
class Estimate:
    """Estimate of the size of a training step.

    Attributes:
        num_parameters: Number of parameters of the student.
        peak_bytes: Peak memory in bytes without data sets. This is the memory of the process on CPUs, and otherwise the
            memory of the device.
    """

    num_parameters: int
    peak_bytes: int


def estimate_step(model: ICCLD, *, batch_size: int, num_branches: int, crop: tuple[int, int]) -> Estimate:
    """Estimates the memory of a training step from a forward and backward pass with one image per branch.

    The memory of the activations is multiplied by ``batch_size``, the number of images per branch. ``num_branches`` is
    1 in supervised training and up to 4 with adaptation. ``crop`` is (height, width). The pass runs on a copy of the
    model. The caller must enable the same autocast as in training.
    """
    device = next(model.parameters()).device
    images = torch.full((num_branches, 3, *crop), 0.5, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(2 if num_branches >= 3 else 1, *crop, dtype=torch.int64, device=device)
    times = torch.full((num_branches,), 0.5, device=device)  # self-alignment needs memory only at t < 1
    aligned = torch.ones(num_branches, dtype=torch.bool, device=device)
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        output = copy.deepcopy(model)(images, labels, times, aligned)
        loss = output.logits.float().square().mean() + output.denoised.square().mean()
        loss = loss + output.reconstruction.float().square().mean()
    loss.backward()
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    activations = max(0, sum(kept.values()) - weights) * batch_size
    overhead = _PROCESS_OVERHEAD if device.type == "cpu" else 0
    peak = _COPIES * weights + int(_IN_FLIGHT * activations) + overhead
    return Estimate(sum(p.numel() for p in model.parameters()), peak)


def make_trial(update: Update) -> Callable[[int], float]:
    """Returns a function that measures the duration of a training step on synthetic images, in seconds.

    The argument of the function is the index of the step. The function runs one micro-batch, and multiplies the
    duration by the number of micro-batches of a step. The function uses copies of the networks. Weights,
    gradients, running statistics and torch's random state of the run do not change.
    """
    config, method, device = update.config, update.method, update.fabric.device
    model, discriminator = copy.deepcopy((update.model, update.discriminator))
    model.train()
    random = torch.Generator().manual_seed(0)
    shape = (config.data.batch_size, *config.data.crop)
    blocks = torch.randint(0, len(model.label_space), (shape[0], 1, 4, 8), generator=random)
    labels = F.interpolate(blocks.float(), size=config.data.crop, mode="nearest")[:, 0].long()
    pixels = torch.randint(0, 256, (shape[0], 3, *config.data.crop), generator=random, dtype=torch.uint8)
    valid = torch.ones(shape, dtype=torch.bool)
    target = {"image": pixels.flip(0), "valid": valid} if method.uses_target else None
    batch = update.to_device({"image": pixels, "label": labels, "valid": valid}, target)

    def trial(step: int) -> float:
        start = time.monotonic()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(0)
            with update.fabric.autocast():
                result = method.segmenter_step(model, update.teacher_model, discriminator, batch, step)
            result.loss.backward()
        model.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.monotonic() - start) * config.optim.accumulation

    return trial


@dataclass(frozen=True)
class _Entry:
    """Number of threads from step ``step`` on, with the reason for this number."""

    step: Annotated[int, Range(0, 10**12)]
    threads: Annotated[int, Range(1, 4096)]
    why: str


@dataclass(frozen=True)
class _Record:
    chosen: tuple[_Entry, ...] = ()


def set_run_threads(
    threads: int,
    step: int,
    out: Path,
    *,
    fabric: Fabric,
    helpers: int,
    make_trial: Callable[[], Callable[[], object]],
) -> str:
    """Sets torch's number of threads for the steps of a run from ``step`` on, and records the number.

    If ``threads`` is 0, the recorded number is used. Without a record, trials determine the number on CPUs. On other
    devices, the maximum is used without a record.

    ``helpers`` is the number of loader processes of this rank. ``make_trial`` returns a function that runs one trial
    step. Returns a text with the number of threads and the reason. Raises ``InputError`` if the record cannot be read.
    """
    path = out / "threads.json"
    # Rank zero reads the file and chooses for all ranks, because rank zero also rewrites the file.
    entries = fabric.broadcast(_read_threads(path))
    earlier = [entry for entry in entries if entry.step <= step]
    if earlier and not threads:
        set_threads(earlier[-1].threads)
        return f"{earlier[-1].threads} (as before: {earlier[-1].why})"
    most = most_threads(int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if threads:
        choice = Choice(threads, {}, "--threads")
    elif fabric.device.type != "cpu":
        choice = Choice(most, {}, f"{fabric.device.type} computes")
    else:
        choice = fabric.broadcast(choose_threads(make_trial() if most > 1 else int, most, helpers=helpers))
    set_threads(choice.threads)
    entries = [entry for entry in entries if entry.step < step]
    if not entries or entries[-1].threads != choice.threads:
        entries.append(_Entry(step, choice.threads, choice.why))
    if fabric.is_global_zero:
        write_json(path, {"chosen": [asdict(entry) for entry in entries]})
    return f"{choice.threads} ({choice.why})"


def _read_threads(path: Path) -> list[_Entry]:
    if not path.is_file():
        return []
    remedy = "remove it, and threads are chosen anew"
    value = read_json(path, remedy=remedy)
    try:
        record = build(_Record, value, str(path), others=True)
    except InputError as error:
        raise InputError(f"{error}; {remedy}") from error
    return sorted(record.chosen, key=lambda entry: entry.step)


@dataclass(frozen=True)
class Rehearsal:
    """Result of the trials before the first step: number of threads with the reason, and expected durations."""

    threads: str
    costs: Costs


def rehearse(update: Update, *, step: int, out: Path, evaluate: object) -> Rehearsal:
    """Chooses the number of threads, and measures the duration of steps without and with adaptation.

    The run starts or resumes at ``step`` in the folder ``out``. The trials change neither the weights nor the random
    state of the run. If the run is long and ``evaluate`` has a method ``expected_seconds``, the duration of an
    evaluation is estimated too.
    """
    config, uses_target = update.config, update.method.uses_target
    threads = set_run_threads(
        config.threads,
        step,
        out,
        fabric=update.fabric,
        helpers=config.data.num_workers * (2 if uses_target else 1),
        make_trial=lambda: partial(make_trial(update), step),
    )
    trial = make_trial(update)

    def timed(step: int) -> float:
        trial(step)  # warm-up of the kernels
        return trial(step)

    change = round(config.adaptation.start * config.steps) if uses_target else 0
    early = timed(step)
    costs = Costs(early, timed(config.steps - 1) if step < change < config.steps else early, change)
    foresee = getattr(evaluate, "expected_seconds", None)
    is_long = costs.of_steps(step, config.steps) > _WORTH_A_TRIAL
    if foresee is not None and is_long and update.fabric.is_global_zero:
        seconds = foresee(update.teacher_model, update.model)
        costs = replace(costs, evaluation=seconds)
    del trial
    release_freed_memory()
    return Rehearsal(threads, costs)
