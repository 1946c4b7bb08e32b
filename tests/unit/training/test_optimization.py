from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.swa_utils import AveragedModel

from iccld.config import OptimConfig
from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD
from iccld.models.networks import LatentDiscriminator
from iccld.training.update import (
    build_discriminator_optimizer,
    build_segmenter_optimizer,
    rate_factor,
    set_rate,
    teacher_average,
)


@given(
    num_steps=st.integers(1, 400),
    warmup=st.integers(0, 500),
    power=st.sampled_from([0.5, 0.9, 1.0, 2.0]),
)
def test_rate_rises_then_falls_and_never_dies(num_steps: int, warmup: int, power: float) -> None:
    factors = [rate_factor(step, num_steps, warmup, power) for step in range(num_steps)]
    assert all(0 < factor <= 1 for factor in factors)
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


def test_rate_by_hand() -> None:
    assert rate_factor(0, 1000, 100, 1.0) == pytest.approx(0.01)
    assert rate_factor(49, 1000, 100, 1.0) == pytest.approx(0.5 * 0.951)
    assert rate_factor(500, 1000, 100, 1.0) == pytest.approx(0.5)
    assert rate_factor(500, 1000, 100, 2.0) == pytest.approx(0.25)
    assert rate_factor(999, 1000, 0, 1.0) == pytest.approx(0.001)
    assert rate_factor(1000, 1000, 100, 1.0) == 0


@pytest.mark.parametrize("backbone", ["compact", "efficientnet_lite0"])
def test_every_weight_is_in_one_group_with_its_rate_and_decay(backbone: str) -> None:
    model = ICCLD(CAMVID11, backbone=backbone, width=32)
    config = OptimConfig(head_lr=3e-4, backbone_lr=7e-5, weight_decay=0.05)
    optimizer = build_segmenter_optimizer(model, config)
    groups = [(id(p), g) for g in optimizer.param_groups for p in g["params"]]
    assert len(groups) == len({key for key, _ in groups}) == len(list(model.parameters()))
    group_of = dict(groups)
    for name, parameter in model.named_parameters():
        group = group_of[id(parameter)]
        assert group["peak_lr"] == group["lr"] == (7e-5 if name.startswith("image_coder.") else 3e-4), name
        is_vector = parameter.ndim <= 1
        assert group["weight_decay"] == (0.0 if is_vector else 0.05), name


def test_frozen_weights_are_left_out() -> None:
    model = ICCLD(CAMVID11, width=32)
    model.image_coder.requires_grad_(False)
    optimizer = build_segmenter_optimizer(model, OptimConfig())
    known = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert not known & {id(p) for p in model.image_coder.parameters()}
    assert {id(p) for p in model.denoiser.parameters()} <= known


def test_rates_are_set_from_the_peak_each_time() -> None:
    model = ICCLD(CAMVID11, width=32)
    optimizer = build_segmenter_optimizer(model, OptimConfig(head_lr=4e-4, backbone_lr=2e-4))
    for factor in (0.5, 0.5, 0.25):
        set_rate(optimizer, factor)
        assert {group["lr"] for group in optimizer.param_groups} == {4e-4 * factor, 2e-4 * factor}


def test_discriminators_optimizer() -> None:
    discriminator = LatentDiscriminator(4, width=8)
    optimizer = build_discriminator_optimizer(discriminator, 1e-4)
    (group,) = optimizer.param_groups
    assert len(group["params"]) == len(list(discriminator.parameters()))
    assert (group["peak_lr"], group["betas"], group["weight_decay"]) == (1e-4, (0.5, 0.99), 0.0)
    torch.testing.assert_close(group["lr"], 1e-4)


@pytest.mark.parametrize("decay", [0.0, 0.6, 0.99])
def test_the_teacher_is_the_mean_at_first_and_then_a_moving_average(decay: float) -> None:
    """As in DACS, after update i ≥ 0: α = min(1 − 1/(i + 1), decay), teacher ← α · teacher + (1 − α) · student."""
    student = torch.nn.Linear(3, 2)
    teacher = AveragedModel(student, multi_avg_fn=teacher_average(decay))
    expected = student.weight.detach().double()
    seen = []
    for i in range(12):
        with torch.no_grad():
            student.weight.copy_(torch.randn(2, 3, generator=torch.Generator().manual_seed(i)))
        teacher.update_parameters(student)
        weight = student.weight.detach().double()
        seen.append(weight)
        alpha = min(1 - 1 / (i + 1), decay)
        expected = alpha * expected + (1 - alpha) * weight
        torch.testing.assert_close(teacher.module.weight.double(), expected, atol=1e-5, rtol=1e-4)
    if decay == 0.99:
        mean = torch.stack(seen).mean(dim=0)
        torch.testing.assert_close(teacher.module.weight.double(), mean, atol=1e-5, rtol=1e-4)
