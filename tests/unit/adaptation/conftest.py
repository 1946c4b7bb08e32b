"""Fixtures of training steps: small students, teachers, discriminators and a batch."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from iccld.adaptation.method import Batch
from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD
from iccld.models.networks import LatentDiscriminator, OutputDiscriminator, TrainingOutput

NUM_CLASSES = len(CAMVID11)


class _Recorder:
    """A wrapper of a student that stores the arguments and the output of the call."""

    def __init__(self, student: ICCLD) -> None:
        self.student = student
        self.asked: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
        self.said: TrainingOutput | None = None

    def __call__(
        self, images: Tensor, labels: Tensor, times: Tensor, aligned: Tensor, **switches: bool
    ) -> TrainingOutput:
        assert self.asked is None, "one pass a step: the student may be wrapped for several GPUs"
        self.asked = (images, labels, times, aligned)
        self.said = self.student(images, labels, times, aligned, **switches)
        return self.said


@pytest.fixture
def recorder(student: ICCLD) -> _Recorder:
    return _Recorder(student)


@pytest.fixture
def plain_recorder(plain: ICCLD) -> _Recorder:
    return _Recorder(plain)


@pytest.fixture(scope="module")
def student() -> ICCLD:
    torch.manual_seed(0)
    return ICCLD(CAMVID11, latent_channels=8, width=32)


@pytest.fixture(scope="module")
def plain() -> ICCLD:
    """A student with a deterministic head, as in the published methods."""
    torch.manual_seed(0)
    return ICCLD(CAMVID11, latent_channels=8, width=32, diffusion=False)


@pytest.fixture
def teacher(student: ICCLD) -> ICCLD:
    return deepcopy(student).requires_grad_(False).eval()


@pytest.fixture
def plain_teacher(plain: ICCLD) -> ICCLD:
    return deepcopy(plain).requires_grad_(False).eval()


@pytest.fixture
def discriminator() -> LatentDiscriminator:
    torch.manual_seed(1)
    return LatentDiscriminator(8, width=16)


@pytest.fixture
def output_discriminator() -> OutputDiscriminator:
    torch.manual_seed(1)
    return OutputDiscriminator(NUM_CLASSES, width=8)


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(2)
    images, targets = torch.rand(2, 2, 3, 64, 64, generator=generator)
    labels = torch.randint(0, NUM_CLASSES, (2, 8, 8), generator=generator)
    labels = labels.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    # Labels are constant in 8×8 blocks, so that all phases of a 2×2 block have equal labels.
    labels[:, :, :8] = 255
    valid = torch.ones(2, 64, 64, dtype=torch.bool)
    valid[:, 60:] = False
    return Batch(images, labels, targets, valid)


@pytest.fixture(autouse=True)
def _clean_gradients(student: ICCLD, plain: ICCLD) -> None:
    student.zero_grad(set_to_none=True)
    plain.zero_grad(set_to_none=True)


@pytest.fixture
def undisguised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disables blur and color changes of mixed and masked images."""
    monkeypatch.setattr("iccld.adaptation.self_training.gaussian_blur", lambda images: images)
    for name in ("color_jitter", "hsv_jitter"):
        monkeypatch.setattr(f"iccld.adaptation.self_training.{name}", lambda images, strength: images)


@pytest.fixture
def opinion() -> Callable[[ICCLD, Tensor, Tensor], list[int]]:
    """Replaces a teacher's prediction by given labels and confidences. Returns the list of requested sampling steps."""

    def fix(teacher: ICCLD, labels: Tensor, confidence: Tensor) -> list[int]:
        rest = torch.log((1 - confidence) / (NUM_CLASSES - 1))
        logits = rest[:, None].repeat(1, NUM_CLASSES, 1, 1)
        logits.scatter_(1, labels[:, None], torch.log(confidence)[:, None])
        asked: list[int] = []

        def segment(state: Any, noise: Tensor, num_steps: int) -> Tensor:
            asked.append(num_steps)
            return logits.softmax(dim=1)

        teacher.segment = segment  # type: ignore[method-assign]
        return asked

    return fix


@pytest.fixture
def seeded() -> Callable[..., Any]:
    """Takes a training step with a fixed random seed."""

    def take(
        method: Any, student: Any, teacher: ICCLD, discriminator: Any, batch: Batch, step: int = 0
    ) -> Any:
        torch.manual_seed(3)
        return method.segmenter_step(student, teacher, discriminator, batch, step)

    return take
