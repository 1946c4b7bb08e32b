"""Tests of supervised training and of ICCLD."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch

from iccld.adaptation.iccld import Adaptation, sliced_wasserstein
from iccld.adaptation.losses import (
    Adversary,
    SupervisedLoss,
    TimeSampling,
    denoising_loss,
    domain_loss,
    segmentation_loss,
)
from iccld.adaptation.method import Batch, Method, Oracle, SourceOnly
from iccld.adaptation.mixing import transfer_class_color
from iccld.adaptation.self_training import PseudoLabels, SelfTraining
from iccld.models.iccld import ICCLD
from iccld.models.networks import LatentDiscriminator

AT_ONCE = SelfTraining(start_step=0, teacher_steps=2)
FULL = Adversary(weight=1.0, warmup_steps=0)


# -- supervised -----------------------------------------------------------------------------------


def test_source_only_is_equation_8(student: ICCLD, teacher: ICCLD, batch: Batch, seeded: Any) -> None:
    torch.manual_seed(3)
    times = torch.rand(2)
    times = torch.where(torch.rand(2) < 0.5, torch.ones(2), times)
    aligned = torch.rand(2) < 0.5
    output = student(batch.images, batch.labels, times, aligned)
    expected = (
        segmentation_loss(output.logits, batch.labels)
        + 0.3 * denoising_loss(output.denoised, output.clean, (batch.labels != 255).float())
        + 0.7 * segmentation_loss(output.reconstruction, batch.labels)
    )
    method = SourceOnly(SupervisedLoss(0.3, 0.7), TimeSampling(0.5, 0.5))
    result = seeded(method, student, teacher, None, batch)
    torch.testing.assert_close(result.loss, expected)
    assert result.domain_maps is None
    names = {"seg_source", "denoising_source", "reconstruction_source"}
    assert result.terms.keys() == names
    assert result.logs.keys() == {f"train/loss_{name}" for name in names}


def test_terms_are_weighted_and_logs_are_not(
    student: ICCLD, teacher: ICCLD, batch: Batch, seeded: Any
) -> None:
    result = seeded(SourceOnly(SupervisedLoss(0.3, 0.7)), student, teacher, None, batch)
    for name, weight in (("seg", 1.0), ("denoising", 0.3), ("reconstruction", 0.7)):
        term, log = result.terms[f"{name}_source"], result.logs[f"train/loss_{name}_source"]
        torch.testing.assert_close(term.detach(), weight * log)
        assert term.requires_grad
        assert not log.requires_grad
    torch.testing.assert_close(result.loss, sum(result.terms.values()))


def test_oracle_is_the_same_on_the_target(student: ICCLD, teacher: ICCLD, batch: Batch, seeded: Any) -> None:
    source, target = SourceOnly(), Oracle()
    assert (source.labeled_domain, target.labeled_domain) == ("source", "target")
    ours = seeded(target, student, teacher, None, batch)
    assert torch.equal(ours.loss, seeded(source, student, teacher, None, batch).loss)
    assert "train/loss_seg_target" in ours.logs


@pytest.mark.parametrize("method", [SourceOnly(), Adaptation(), Adaptation(adversary=None)])
def test_methods_are_methods(method: Any) -> None:
    assert isinstance(method, Method)
    assert (method.adversary is not None) == (method == Adaptation())


@pytest.mark.parametrize(("at_one", "aligned"), [(0.0, 0.0), (0.4, 0.7), (1.0, 1.0)])
def test_time_sampling(at_one: float, aligned: float) -> None:
    torch.manual_seed(0)
    times, own = TimeSampling(at_one, aligned)(4000)
    assert float((times == 1).float().mean()) == pytest.approx(at_one, abs=0.03)
    assert float(own.float().mean()) == pytest.approx(aligned, abs=0.03)


# -- ICCLD: which branches there are ----------------------------------------------------------------


def test_before_the_start_it_is_source_only(
    student: ICCLD, teacher: ICCLD, discriminator: LatentDiscriminator, batch: Batch, seeded: Any
) -> None:
    method = Adaptation(self_training=SelfTraining(start_step=10), masked=True, color_transfer=0.0)
    early = seeded(method, student, teacher, discriminator, batch, step=9)
    plain = seeded(SourceOnly(), student, teacher, None, batch)
    assert torch.equal(early.loss, plain.loss)
    assert early.logs.keys() == plain.logs.keys()
    assert early.domain_maps is None
    late = seeded(method, student, teacher, discriminator, batch, step=10)
    assert not torch.equal(late.loss, plain.loss)
    assert late.domain_maps is not None


def test_classes_take_colors_where_the_teacher_is_sure(
    recorder: Any, teacher: ICCLD, batch: Batch, seeded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = AT_ONCE.label_target(teacher, batch)
    assert taught.weights is not None
    half = torch.zeros_like(taught.weights)
    half[:, : half.shape[1] // 2] = 1.0
    answer = replace(taught, weights=half)
    monkeypatch.setattr(SelfTraining, "label_target", lambda *_: answer)
    method = Adaptation(self_training=AT_ONCE, adversary=None, color_transfer=0.0, class_color_transfer=1.0)
    seeded(method, recorder, teacher, None, batch)
    shown = recorder.asked[0][:2]
    sure = answer.labels.where(half > 0, 255)
    expected = transfer_class_color(batch.images, batch.labels, answer.images, sure, len(teacher.label_space))
    # The strength of the transfer is random in each call, but the changed pixels are the same.
    assert not torch.equal(shown, batch.images)
    assert torch.equal(shown != batch.images, expected != batch.images)


@pytest.mark.parametrize(
    ("mixing", "masked", "adversary", "num_domains", "domains"),
    [
        ("classmix", False, True, 3, [0, 0, 1, 1, 2]),
        ("cutmix", False, True, 3, [0, 0, 1, 1, 2]),
        ("none", False, True, 3, [0, 0, 2]),
        ("classmix", False, True, 2, [0, 0, 2]),
        ("none", True, True, 3, [0, 0, 1, 1, 2]),
        ("classmix", True, True, 3, [0, 0, 1, 1, 1, 1, 2]),
        ("classmix", True, True, 2, [0, 0, 2]),
        ("classmix", False, False, 3, None),
        ("none", True, False, 3, None),
        ("none", False, False, 3, None),
    ],
)
def test_branches(
    recorder: Any,
    teacher: ICCLD,
    discriminator: LatentDiscriminator,
    batch: Batch,
    seeded: Any,
    mixing: Any,
    masked: bool,
    adversary: bool,
    num_domains: int,
    domains: list[int] | None,
) -> None:
    method = Adaptation(
        self_training=replace(AT_ONCE, mixing=mixing),
        masked=masked,
        color_transfer=0.0,
        adversary=Adversary() if adversary else None,
        num_domains=num_domains,
    )
    result = seeded(method, recorder, teacher, discriminator if adversary else None, batch)
    images, labels, times, aligned = recorder.asked
    mixed = mixing != "none"
    assert len(images) == len(times) == len(aligned) == 2 * (1 + mixed + masked) + adversary
    assert len(labels) == 2 * (1 + mixed + masked)
    assert torch.equal(images[:2], batch.images)
    assert torch.equal(labels[:2], batch.labels)
    if adversary:
        assert torch.equal(images[-1:], batch.target_images[:1])
    branches = ["source", *["mixed"] * mixed, *["masked"] * masked]
    expected = {f"{name}_{b}" for name in ("seg", "denoising") for b in branches} | {"reconstruction_source"}
    assert result.terms.keys() == expected | ({"adversarial"} if adversary else set())
    if domains is None:
        assert result.domain_maps is None
    else:
        assert result.domain_maps.counts == tuple(domains.count(domain) for domain in range(3))
        rows = torch.ones(len(images), dtype=torch.bool)
        rows[2 : 2 + len(images) - len(domains)] = False
        assert torch.equal(result.domain_maps.maps, recorder.said.denoised[rows])
        assert torch.equal(result.domain_maps.times, times[rows])
        assert not result.domain_maps.maps.requires_grad
    assert result.denoised is recorder.said.denoised


def test_the_distance_of_the_domains_is_logged(
    recorder: Any, teacher: ICCLD, discriminator: LatentDiscriminator, batch: Batch, seeded: Any
) -> None:
    result = seeded(Adaptation(self_training=AT_ONCE), recorder, teacher, discriminator, batch)
    latents = recorder.said.denoised.detach()
    expected = sliced_wasserstein(latents[:2], latents[-1:])
    assert float(result.logs["train/latent_distance"]) == pytest.approx(float(expected))
    assert float(expected) > 0


# -- the mixed domain ----------------------------------------------------------------------------------


def test_an_unsure_teacher_teaches_only_what_is_pasted(
    student: ICCLD, teacher: ICCLD, batch: Batch, seeded: Any
) -> None:
    """With a threshold above 1, target pixels have zero weight, so that their labels have no effect."""
    assert batch.target_valid is not None
    unsure = replace(AT_ONCE, pseudo_labels=PseudoLabels("batch", 1.1))
    method = Adaptation(self_training=unsure, adversary=None, color_transfer=0.0)
    all_valid = seeded(method, student, teacher, None, batch)
    none_valid = replace(batch, target_valid=torch.zeros_like(batch.target_valid))
    assert torch.equal(all_valid.loss, seeded(method, student, teacher, None, none_valid).loss)
    sure = replace(method, self_training=replace(AT_ONCE, pseudo_labels=PseudoLabels("batch", 0.0)))
    assert bool(seeded(sure, student, teacher, None, batch).loss > all_valid.loss)


def test_the_teacher_gets_no_gradient(
    student: ICCLD, batch: Batch, discriminator: LatentDiscriminator, seeded: Any
) -> None:
    teacher = deepcopy(student).eval()  # with weights that require gradients
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    method = Adaptation(self_training=AT_ONCE, masked=True)
    seeded(method, student, teacher, discriminator, batch).loss.backward()
    assert all(p.grad is None for p in teacher.parameters())
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name])


# -- the adversary ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seen", ["latents", "features"])
def test_adversarys_gradient_reaches_the_student_and_not_the_discriminator(
    seen: Any, student: ICCLD, teacher: ICCLD, batch: Batch, seeded: Any
) -> None:
    torch.manual_seed(1)
    discriminator = LatentDiscriminator(8 if seen == "latents" else 32, width=16)
    method = Adaptation(
        self_training=replace(AT_ONCE, mixing="none"), adversary=replace(FULL, input=seen), color_transfer=0.0
    )
    result = seeded(method, student, teacher, discriminator, batch)
    result.terms["adversarial"].backward()
    assert all(p.grad is None for p in discriminator.parameters())
    assert all(p.requires_grad for p in discriminator.parameters()), "it has to learn in its own step"
    for part in (student.image_coder, student.denoiser):
        assert sum(float(p.grad.abs().sum()) for p in part.parameters() if p.grad is not None) > 0
    assert not any(p.grad is not None and bool(p.grad.any()) for p in student.label_encoder.parameters())
    # The features are the input of the layer that outputs the latent.
    reads_latent = student.denoiser.out.weight.grad
    assert (reads_latent is not None and bool(reads_latent.any())) == (seen == "latents")


def test_adversary_on_features_sees_them(recorder: Any, teacher: ICCLD, batch: Batch, seeded: Any) -> None:
    method = Adaptation(self_training=AT_ONCE, adversary=replace(FULL, input="features"), num_domains=2)
    result = seeded(method, recorder, teacher, LatentDiscriminator(32, width=16), batch)
    assert torch.equal(result.domain_maps.maps, recorder.said.features[[0, 1, 4]])
    assert result.domain_maps.maps.shape == (3, 32, 8, 8)


@pytest.mark.parametrize(("num_domains", "rows"), [(3, [0, 2, 3, 4]), (2, [0, 4])])
def test_labeled_target_images_are_in_no_domain_and_keep_their_colors(
    num_domains: int, rows: list[int], recorder: Any, teacher: ICCLD, batch: Batch, seeded: Any
) -> None:
    batch = replace(batch, num_target_labeled=1)
    method = Adaptation(
        self_training=AT_ONCE, adversary=FULL, num_domains=num_domains, class_color_transfer=1.0
    )
    result = seeded(method, recorder, teacher, LatentDiscriminator(8, width=16), batch)
    assert torch.equal(result.domain_maps.maps, recorder.said.denoised[rows])
    assert torch.equal(result.domain_maps.times, recorder.said.times[rows])
    assert sum(result.domain_maps.counts) == len(rows)
    shown = recorder.asked[0]
    assert torch.equal(shown[1], batch.images[1])
    assert not torch.equal(shown[0], batch.images[0])


def test_adversarial_loss_is_equation_10(
    student: ICCLD, teacher: ICCLD, discriminator: LatentDiscriminator, batch: Batch, seeded: Any
) -> None:
    method = Adaptation(self_training=AT_ONCE, adversary=replace(FULL, weight=0.5))
    result = seeded(method, student, teacher, discriminator, batch)
    seen = result.domain_maps
    logits = discriminator(seen.maps[2:], seen.times[2:])  # mixed and target
    expected = domain_loss(logits, (3, 0, 0)).detach()
    torch.testing.assert_close(result.logs["train/loss_adversarial"], expected)
    assert float(result.logs["train/adversarial_relief"]) == 1, "an untrained discriminator has not won"
    torch.testing.assert_close(result.terms["adversarial"].detach(), 0.5 * expected)


def test_the_adversary_can_be_fooled(student: ICCLD, teacher: ICCLD, batch: Batch, seeded: Any) -> None:
    """A few steps against a fixed discriminator lower the adversarial loss."""
    torch.manual_seed(4)
    pupil, discriminator = deepcopy(student), LatentDiscriminator(8, width=16)
    method = Adaptation(self_training=replace(AT_ONCE, mixing="none"), adversary=FULL, color_transfer=0.0)
    optimizer = torch.optim.Adam(pupil.denoiser.parameters(), lr=1e-3)
    losses = []
    for _ in range(6):
        term = seeded(method, pupil, teacher, discriminator, batch).terms["adversarial"]
        optimizer.zero_grad()
        term.backward()
        optimizer.step()
        losses.append(float(term.detach()))
    assert losses[-1] < losses[0]
