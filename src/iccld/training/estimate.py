"""What a run will take, before it starts: parameters and peak memory."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from iccld.models.iccld import ICCLD

# Fitted to benchmarks/memory.py: interpreter, torch and the kernels' scratch space on a CPU; the gradients in flight.
_PROCESS_OVERHEAD = 490 * 2**20
_IN_FLIGHT = 1.3


@dataclass(frozen=True)
class Estimate:
    """A run's expected demands.

    Attributes:
        num_parameters: of the student.
        peak_bytes: of the training process (CPU) or of device memory (GPU), data not included.
    """

    num_parameters: int
    peak_bytes: int


def estimate_step(model: ICCLD, *, batch_size: int, num_branches: int, crop: tuple[int, int]) -> Estimate:
    """Runs one small forward and backward pass of a copy and scales what it kept to the real batch.

    Call it under the autocast that training will use.

    Args:
        model: on its device; it is left as it is.
        batch_size: images per branch.
        num_branches: 1 for supervised training, 3 for source, mixed and target.
        crop: height and width of the images.
    """
    device = next(model.parameters()).device
    labeled = 2 if num_branches >= 3 else 1
    images = torch.full((num_branches, 3, *crop), 0.5, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(labeled, *crop, dtype=torch.int64, device=device)
    times = torch.full((num_branches,), 0.5, device=device)  # where self-alignment costs a pass more
    aligned = torch.ones(num_branches, dtype=torch.bool, device=device)
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        output = copy.deepcopy(model)(images, labels, times, aligned)
        loss = output.logits.float().square().mean() + output.denoised.square().mean()
        loss = loss + output.reconstruction.float().square().mean()
    loss.backward()
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    activations = max(0, sum(kept.values()) - weights) * batch_size
    # Student, gradients, two moments and the teacher; activations, and the gradients in flight.
    peak = 5 * weights + int(_IN_FLIGHT * activations) + (_PROCESS_OVERHEAD if device.type == "cpu" else 0)
    return Estimate(sum(p.numel() for p in model.parameters()), peak)
