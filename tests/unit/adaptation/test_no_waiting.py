"""Test that a training step never reads values from the device, because each read is a GPU sync.

Networks and batches are on torch's ``meta`` device, whose tensors have shapes but no values: reading a value fails.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import pytest
import torch

from iccld.adaptation.method import Batch
from iccld.build import build_discriminator, build_method, build_model
from iccld.config import with_settings
from iccld.models.image_coder import CompactCoder
from iccld.presets import get_preset, with_method
from iccld.run_data import build_label_space

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "source_only": ("source_only", {}),
    "iccld": ("iccld", {}),
    "iccld with light steps": ("iccld", {"model.light_steps": True}),
    "classmix": ("iccld", {"adaptation.mixing": "classmix"}),
    "colors by class": (
        "iccld",
        {"adaptation.mixing": "classmix", "adaptation.class_color_transfer": 1.0},
    ),
    "cutmix": ("iccld", {"adaptation.mixing": "cutmix"}),
    "sure batches": ("iccld", {"adaptation.mixing": "classmix", "adaptation.weighting": "batch"}),
    "masked": ("iccld", {"adaptation.masked": True, "adaptation.mask_patch": 16}),
    "draws of the teacher": ("iccld", {"adaptation.mixing": "classmix", "adaptation.teacher_draws": 3}),
    "adversary": ("iccld", {"adaptation.adversarial_weight": 0.02}),
    "paper's, two domains": (
        "iccld",
        {
            "adaptation.mixing": "classmix",
            "adaptation.adversarial_weight": 0.02,
            "adaptation.adversarial_domains": 2,
        },
    ),
    **{
        name: (name, {})
        for name in ("oracle", "adaptsegnet", "advent", "minent", "fda", "dacs", "daformer", "mic")
    },
}


@pytest.mark.parametrize("name", CASES)
def test_a_step_never_waits_for_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # meta has no autocast
    narrow = partial(CompactCoder, channels=(8, 12, 16, 24, 32))
    monkeypatch.setattr("iccld.models.image_coder.CompactCoder", narrow)
    method_name, settings = CASES[name]
    config = with_settings(
        with_method(get_preset("demo").config, method_name),
        {"model.width": 16, "adaptation.start": 0.0, "data.crop": (64, 64), **settings},
    )
    space = build_label_space(config.data)
    method = build_method(config, space)
    student, teacher = (build_model(config, space).to("meta") for _ in range(2))
    discriminator = build_discriminator(config, method, space)
    if discriminator is not None:
        discriminator.to("meta")
    size = (2, 64, 64)
    batch = Batch(torch.rand(2, 3, 64, 64, device="meta"), torch.zeros(size, dtype=torch.long, device="meta"))
    if method.uses_target:
        batch.target_images = torch.rand(2, 3, 64, 64, device="meta")
        batch.target_valid = torch.ones(size, dtype=torch.bool, device="meta")
    torch.manual_seed(0)
    result = method.segmenter_step(student, teacher, discriminator, batch, config.steps - 1)
    result.loss.backward()
    assert all(figure.is_meta for figure in result.logs.values())
    if method.adversary is not None:
        assert result.domain_maps is not None
        loss, _ = method.adversary.discriminator_loss(discriminator, result.domain_maps)
        loss.backward()


def test_what_reads_a_value_would_be_found() -> None:
    with pytest.raises((NotImplementedError, RuntimeError)):
        torch.ones(3, device="meta").nonzero()
    with pytest.raises((NotImplementedError, RuntimeError)):
        float(torch.ones((), device="meta"))
