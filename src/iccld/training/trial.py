"""A training step that leaves no trace: to measure how long the real ones will take."""

from __future__ import annotations

import copy
import time

import torch
from torch.nn import functional as F

from iccld.training.update import Update


class TrialStep:
    """Loss and gradients of made-up images, computed by copies of the networks.

    Weights, running statistics, gradients and torch's random state of the run stay as they are.

    Args:
        update: of the run.
        crop: height and width of the images in pixels.
    """

    def __init__(self, update: Update, crop: tuple[int, int]) -> None:
        self._update = update
        self._model, self._discriminator = copy.deepcopy((update.model, update.discriminator))
        self._model.train()
        random = torch.Generator().manual_seed(0)
        shape = (update.config.data.batch_size, *crop)
        classes = len(update.model.label_space)
        blocks = torch.randint(0, classes, (shape[0], 1, 4, 8), generator=random)
        labels = F.interpolate(blocks.float(), size=crop, mode="nearest")[:, 0].long()
        pixels = torch.randint(0, 256, (shape[0], 3, *crop), generator=random, dtype=torch.uint8)
        names = ["trial"] * shape[0]
        valid = torch.ones(shape, dtype=torch.bool)
        target = {"image": pixels.flip(0), "valid": valid, "name": names}
        self._batch = update.to_device(
            {"image": pixels, "label": labels, "valid": valid, "name": names},
            target if update.method.uses_target else None,
        )

    def __call__(self, step: int) -> float:
        """Computes it as step ``step`` of the run would be; returns the seconds of all its micro-batches."""
        update = self._update
        device = update.fabric.device
        devices = [device] if device.type == "cuda" else []
        start = time.monotonic()
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(0)
            with update.fabric.autocast():
                result = update.method.segmenter_step(
                    self._model, update.teacher_model, self._discriminator, self._batch, step
                )
            result.loss.backward()
        self._model.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.monotonic() - start) * update.config.optim.accumulation
