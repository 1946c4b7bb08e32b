"""Estimates before the first step of a run: memory, number of threads, and duration of steps and evaluations."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from iccld.compute import choose_device
from iccld.config import TrainConfig
from iccld.errors import InputError
from iccld.files import in_bytes
from iccld.machine import free_memory, release_freed_memory
from iccld.models.iccld import ICCLD
from iccld.training.display import Costs
from iccld.training.run_threads import set_run_threads
from iccld.training.update import Update

# Constants fitted to results of benchmarks/memory.py. ``_PROCESS_OVERHEAD`` is the memory in bytes of the interpreter,
# torch and the scratch space of CPU kernels. ``_IN_FLIGHT`` is a factor of the activations' memory, which accounts for
# their gradients.
_PROCESS_OVERHEAD = 490 * 2**20
_IN_FLIGHT = 1.3
_COPIES = 5
"""Number of copies of the weights: student, gradients, two moments of the optimizer, teacher."""
_LEAST_PER_PIXEL = 520
"""Lower bound of the bytes per pixel of a training batch: image, labels and activations, in bf16 with the smallest
coder. Values measured in fp32 are 1100 (mit_b0) to 2400 (efficientnet_lite0)."""
_WORTH_A_TRIAL = 20.0
"""Minimum expected duration of training in seconds for a trial evaluation. In shorter runs, a trial takes too long."""


def refuse_impossible(config: TrainConfig, build_model: Callable[[TrainConfig], ICCLD]) -> None:
    """Checks before any allocation that a run does not need more memory than this process may use.

    The estimate is a lower bound. For an ``auto:`` backbone, network and batch are not counted, because the size of the
    backbone is only known from its files.

    Args:
        config: Settings of the run.
        build_model: Function that builds the network of a configuration.

    Raises:
        InputError: The run needs too much memory. The message gives the estimate, the available memory and the flags
            with the largest effect.
    """
    d, m = config.data, config.model
    network, batch, scenes = 0, 0, 0
    if not m.backbone.startswith("auto:"):
        with torch.device("meta"):
            model = build_model(dataclasses.replace(config, model=dataclasses.replace(m, pretrained="no")))
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
    """Estimate for a training step: number of parameters of the student, and peak memory in bytes.

    The memory is that of the process (CPU) or of the device (GPU). Data sets are not included.
    """

    num_parameters: int
    peak_bytes: int


def estimate_step(model: ICCLD, *, batch_size: int, num_branches: int, crop: tuple[int, int]) -> Estimate:
    """Estimates the memory of a training step from a forward and backward pass with one image per branch.

    The memory of the activations is multiplied by the batch size. The pass runs on a copy of the model. The caller must
    enable the same autocast as in training.

    Args:
        model: Model on its device. It is not changed.
        batch_size: Number of images per branch.
        num_branches: Number of branches of image batches: 1 for supervised training, 3 for source, mixed and target.
        crop: Height and width of the images.
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
    """Returns a function that measures the duration of one training step on synthetic images.

    The function uses copies of the networks. Weights, gradients, running statistics and torch's random state of the run
    do not change.

    Returns:
        Function whose argument is the number of the step, and whose result is the duration of the step in seconds.
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
class Rehearsal:
    """Result of the trials before the first step: number of threads with the reason, and expected durations."""

    threads: str
    costs: Costs


def rehearse(update: Update, *, step: int, out: Path, evaluate: object) -> Rehearsal:
    """Chooses the number of threads, and measures the duration of steps without and with adaptation.

    The trials change neither weights nor random state of the run.

    Args:
        update: Update of the run before step ``step``.
        step: Step at which the run starts or resumes.
        out: Folder of the run.
        evaluate: Evaluation of the run. If the run is long and this object has a method ``expected_seconds``, the
            duration of an evaluation is estimated too.
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
        costs = dataclasses.replace(costs, evaluation=seconds)
    del trial
    release_freed_memory()
    return Rehearsal(threads, costs)
