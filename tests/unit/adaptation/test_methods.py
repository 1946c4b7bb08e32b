"""The methods, with a small student and whatever else a step needs."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from iccld.adaptation.iccld import Adaptation
from iccld.adaptation.method import Batch, DomainLatents, SupervisedLoss, TimeSampling
from iccld.adaptation.oracle import Oracle
from iccld.adaptation.source_only import SourceOnly
from iccld.labels import CAMVID11
from iccld.losses import denoising_loss, domain_loss, segmentation_loss
from iccld.models.discriminator import LatentDiscriminator
from iccld.models.iccld import ICCLD, TrainingOutput
from iccld.pseudo_labels import PseudoLabels, Weighting

NUM_CLASSES = len(CAMVID11)


@pytest.fixture(scope="module")
def student() -> ICCLD:
    torch.manual_seed(0)
    return ICCLD(CAMVID11, latent_channels=8, width=32)


@pytest.fixture
def teacher(student: ICCLD) -> ICCLD:
    return deepcopy(student).requires_grad_(False).eval()


@pytest.fixture
def discriminator() -> LatentDiscriminator:
    torch.manual_seed(1)
    return LatentDiscriminator(8, width=16)


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(2)
    images, targets = torch.rand(2, 2, 3, 64, 64, generator=generator)
    labels = torch.randint(0, NUM_CLASSES, (2, 8, 8), generator=generator)
    labels = labels.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    labels[:, :, :7] = 255
    valid = torch.ones(2, 64, 64, dtype=torch.bool)
    valid[:, 60:] = False
    return Batch(images, labels, targets, valid)


@pytest.fixture(autouse=True)
def _clean_gradients(student: ICCLD) -> None:
    student.zero_grad(set_to_none=True)


def _seeded(
    method: Any, student: Any, teacher: ICCLD, discriminator: Any, batch: Batch, step: int = 0
) -> Any:
    torch.manual_seed(3)
    return method.segmenter_step(student, teacher, discriminator, batch, step)


class _Recorder:
    """A student that remembers what it was asked and what it said."""

    def __init__(self, student: ICCLD) -> None:
        self.student = student
        self.asked: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
        self.said: TrainingOutput | None = None

    def __call__(self, images: Tensor, labels: Tensor, times: Tensor, aligned: Tensor) -> TrainingOutput:
        self.asked = (images, labels, times, aligned)
        self.said = self.student(images, labels, times, aligned)
        return self.said


# -- supervised -----------------------------------------------------------------------------------


def test_source_only_is_equation_8(student: ICCLD, teacher: ICCLD, batch: Batch) -> None:
    torch.manual_seed(3)
    times = torch.rand(2)
    times = torch.where(torch.rand(2) < 0.5, torch.ones(2), times)
    aligned = torch.rand(2) < 0.5
    output = student(batch.images, batch.labels, times, aligned)
    expected = (
        segmentation_loss(output.logits, batch.labels)
        + 0.3 * denoising_loss(output.denoised, output.clean)
        + 0.7 * segmentation_loss(output.reconstruction, batch.labels)
    )
    method = SourceOnly(SupervisedLoss(0.3, 0.7), TimeSampling(0.5, 0.5))
    result = _seeded(method, student, teacher, None, batch)
    # The labels' phase is drawn anew by each loss, in the order seg, denoising, reconstruction: as above.
    torch.testing.assert_close(result.loss, expected)
    assert result.domain_latents is None
    assert set(result.logs) == {
        "train/loss_seg_source",
        "train/loss_denoising_source",
        "train/loss_reconstruction_source",
    }


def test_oracle_is_the_same_on_the_target(student: ICCLD, teacher: ICCLD, batch: Batch) -> None:
    source, target = SourceOnly(), Oracle()
    assert (source.labeled_domain, target.labeled_domain) == ("source", "target")
    ours = _seeded(target, student, teacher, None, batch)
    assert torch.equal(ours.loss, _seeded(source, student, teacher, None, batch).loss)
    assert "train/loss_seg_target" in ours.logs


def test_supervised_methods_have_no_discriminator_step() -> None:
    latents = DomainLatents(torch.zeros(1, 8, 2, 2), torch.ones(1), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(AssertionError, match="no discriminator"):
        SourceOnly().discriminator_step(LatentDiscriminator(8), latents)


@pytest.mark.parametrize(("at_one", "aligned"), [(0.0, 0.0), (0.4, 0.7), (1.0, 1.0)])
def test_time_sampling(at_one: float, aligned: float) -> None:
    torch.manual_seed(0)
    times, own = TimeSampling(at_one, aligned)(4000, torch.device("cpu"))
    assert float((times == 1).float().mean()) == pytest.approx(at_one, abs=0.03)
    assert float(own.float().mean()) == pytest.approx(aligned, abs=0.03)


# -- ICCLD: which branches there are ----------------------------------------------------------------


def test_before_the_start_it_is_source_only(
    student: ICCLD, teacher: ICCLD, discriminator: LatentDiscriminator, batch: Batch
) -> None:
    method = Adaptation(start_step=10, color_transfer=0.0)
    early = _seeded(method, student, teacher, discriminator, batch, step=9)
    plain = _seeded(SourceOnly(), student, teacher, None, batch)
    assert torch.equal(early.loss, plain.loss)
    assert early.logs.keys() == plain.logs.keys()
    assert early.domain_latents is None
    late = _seeded(method, student, teacher, discriminator, batch, step=10)
    assert not torch.equal(late.loss, plain.loss)
    assert late.domain_latents is not None


@pytest.mark.parametrize(
    ("mixed", "adversary", "domains"),
    [
        (True, True, [0, 0, 1, 1, 2, 2]),
        (False, True, [0, 0, 2, 2]),
        (True, False, None),
        (False, False, None),
    ],
)
def test_branches(
    student: ICCLD,
    teacher: ICCLD,
    discriminator: LatentDiscriminator,
    batch: Batch,
    mixed: bool,
    adversary: bool,
    domains: list[int] | None,
) -> None:
    weight = 0.02 if adversary else 0.0
    method = Adaptation(start_step=0, mixed=mixed, adversarial_weight=weight, color_transfer=0.0)
    assert method.uses_discriminator == adversary
    recorder = _Recorder(student)
    result = _seeded(method, recorder, teacher, discriminator if adversary else None, batch)
    assert recorder.asked is not None
    assert recorder.said is not None
    images, labels, times, aligned = recorder.asked
    assert len(images) == len(times) == len(aligned) == 2 * (1 + mixed + adversary)
    assert len(labels) == 2 * (1 + mixed)
    assert torch.equal(images[:2], batch.images)
    assert torch.equal(labels[:2], batch.labels)
    if adversary:
        assert torch.equal(images[-2:], batch.target_images)
    assert ("train/loss_seg_mixed" in result.logs) == mixed
    assert ("train/loss_adversarial" in result.logs) == adversary
    if domains is None:
        assert result.domain_latents is None
    else:
        assert result.domain_latents.domains.tolist() == domains
        assert torch.equal(result.domain_latents.latents, recorder.said.denoised)
        assert torch.equal(result.domain_latents.times, times)
        assert not result.domain_latents.latents.requires_grad


# -- the mixed domain ----------------------------------------------------------------------------------


def _with_opinion(teacher: ICCLD, labels: Tensor, confidence: Tensor) -> list[int]:
    """Fixes what the teacher says of each pixel and how sure it is; returns the list of the steps it is asked for."""
    rest = torch.log((1 - confidence) / (NUM_CLASSES - 1))
    logits = rest[:, None].repeat(1, NUM_CLASSES, 1, 1)
    logits.scatter_(1, labels[:, None], torch.log(confidence)[:, None])
    asked: list[int] = []

    def sample(state: Any, noise: Tensor, num_steps: int) -> Tensor:
        asked.append(num_steps)
        return noise

    teacher.sample = sample  # type: ignore[method-assign]
    teacher.decode = lambda latent, state: logits  # type: ignore[method-assign]
    return asked


@pytest.mark.parametrize("weighting", ["pixel", "image"])
def test_mixed_images_labels_and_weights_belong_together(
    weighting: Weighting, teacher: ICCLD, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert batch.target_images is not None
    assert batch.target_valid is not None
    labels = torch.randint(0, NUM_CLASSES, (2, 64, 64), generator=torch.Generator().manual_seed(5))
    confidence = torch.full((2, 64, 64), 0.6)
    confidence[0, :30] = 0.95  # half of the valid rows of the first image, none of the second
    asked = _with_opinion(teacher, labels, confidence)
    monkeypatch.setattr("iccld.adaptation.iccld.gaussian_blur", lambda images: images)
    monkeypatch.setattr("iccld.adaptation.iccld.color_jitter", lambda images, strength: images)
    method = Adaptation(teacher_steps=3, pseudo_labels=PseudoLabels(weighting, 0.9))
    images, mixed_labels, weights = method._mix(teacher, batch)
    assert asked == [3]
    pasted = (images == batch.images).all(dim=1)
    assert 0.2 < float(pasted.float().mean()) < 0.8
    kept = ~pasted
    assert bool((images == batch.target_images).all(dim=1)[kept].all())
    assert torch.equal(mixed_labels[pasted], batch.labels[pasted])
    assert torch.equal(mixed_labels[kept], labels[kept])
    assert 255 not in mixed_labels
    assert bool((weights[pasted] == 1).all())
    assert bool((weights[kept & ~batch.target_valid] == 0).all())
    first, second = (kept & batch.target_valid).unbind()
    expected = (confidence[0] > 0.9).float() if weighting == "pixel" else torch.full((64, 64), 0.5)
    torch.testing.assert_close(weights[0][first], expected[first])
    assert not bool(weights[1][second].any())


def test_an_unsure_teacher_teaches_only_what_is_pasted(student: ICCLD, teacher: ICCLD, batch: Batch) -> None:
    """With threshold above 1 target pixels weigh nothing: their labels cannot matter."""
    assert batch.target_valid is not None
    method = Adaptation(
        start_step=0, pseudo_labels=PseudoLabels("pixel", 1.1), adversarial_weight=0.0, color_transfer=0.0
    )
    all_valid = _seeded(method, student, teacher, None, batch)
    none_valid = replace(batch, target_valid=torch.zeros_like(batch.target_valid))
    assert torch.equal(all_valid.loss, _seeded(method, student, teacher, None, none_valid).loss)
    sure = replace(method, pseudo_labels=PseudoLabels("pixel", 0.0))
    assert bool(_seeded(sure, student, teacher, None, batch).loss > all_valid.loss)


def test_the_teacher_gets_no_gradient(
    student: ICCLD, batch: Batch, discriminator: LatentDiscriminator
) -> None:
    teacher = deepcopy(student).eval()  # even one whose weights could take some
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    _seeded(Adaptation(start_step=0), student, teacher, discriminator, batch).loss.backward()
    assert all(p.grad is None for p in teacher.parameters())
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name])


# -- the adversary ------------------------------------------------------------------------------------


def _adversarial_only(
    student: ICCLD, teacher: ICCLD, discriminator: LatentDiscriminator, batch: Batch, **settings: Any
) -> Any:
    method = Adaptation(
        supervised=SupervisedLoss(0.0, 0.0),
        start_step=0,
        adversarial_warmup=0,
        color_transfer=0.0,
        **settings,
    )
    return method, _seeded(method, student, teacher, discriminator, batch)


def test_adversarys_gradient_reaches_the_student_and_not_the_discriminator(
    student: ICCLD, teacher: ICCLD, discriminator: LatentDiscriminator, batch: Batch
) -> None:
    nothing = replace(batch, labels=torch.full_like(batch.labels, 255))  # so that no other loss is left
    _, result = _adversarial_only(
        student, teacher, discriminator, nothing, mixed=False, adversarial_weight=1.0
    )
    result.loss.backward()
    assert all(p.grad is None for p in discriminator.parameters())
    assert all(p.requires_grad for p in discriminator.parameters()), "it has to learn in its own step"
    for part in (student.image_coder, student.denoiser):
        assert sum(float(p.grad.abs().sum()) for p in part.parameters() if p.grad is not None) > 0
    assert not any(p.grad is not None and bool(p.grad.any()) for p in student.label_encoder.parameters())


def test_adversarial_loss_is_equation_10(
    student: ICCLD, teacher: ICCLD, discriminator: LatentDiscriminator, batch: Batch
) -> None:
    _, result = _adversarial_only(student, teacher, discriminator, batch)
    latents = result.domain_latents
    logits = discriminator(latents.latents[2:], latents.times[2:])  # mixed and target
    expected = domain_loss(logits, torch.zeros(4, dtype=torch.int64))
    torch.testing.assert_close(result.logs["train/loss_adversarial"], expected.detach())


@pytest.mark.parametrize(("step", "share"), [(20, 0.1), (24, 0.5), (29, 1.0), (500, 1.0)])
def test_adversarys_weight_rises_from_the_start(
    student: ICCLD,
    teacher: ICCLD,
    discriminator: LatentDiscriminator,
    batch: Batch,
    step: int,
    share: float,
) -> None:
    method = Adaptation(start_step=20, adversarial_weight=0.5, adversarial_warmup=10)
    result = _seeded(method, student, teacher, discriminator, batch, step)
    supervised = sum(
        weight * float(result.logs[f"train/loss_{name}_{domain}"])
        for name, weight in (("seg", 1.0), ("denoising", 0.5), ("reconstruction", 0.5))
        for domain in ("source", "mixed")
    )
    adversarial = 0.5 * share * float(result.logs["train/loss_adversarial"])
    assert float(result.loss.detach()) == pytest.approx(supervised + adversarial, rel=1e-5)


def test_discriminator_learns_to_tell_domains_apart(discriminator: LatentDiscriminator) -> None:
    torch.manual_seed(0)
    domains = torch.tensor([0, 0, 1, 1, 2, 2])
    centers = torch.randn(3, 8, 1, 1)
    latents = DomainLatents(centers[domains] + 0.3 * torch.randn(6, 8, 8, 8), torch.rand(6), domains)
    method = Adaptation()
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss, logs = method.discriminator_step(discriminator, latents)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 < 0.8 < losses[0]
    for domain in ("source", "mixed", "target"):
        assert float(logs[f"train/discriminator_accuracy_{domain}"]) == 1
    assert float(logs["train/loss_discriminator"]) == losses[-1]


def test_discriminator_step_without_a_mixed_domain(discriminator: LatentDiscriminator) -> None:
    latents = DomainLatents(torch.randn(2, 8, 8, 8), torch.rand(2), torch.tensor([0, 2]))
    _, logs = Adaptation().discriminator_step(discriminator, latents)
    assert "train/discriminator_accuracy_mixed" not in logs
    assert "train/discriminator_accuracy_target" in logs


def test_the_adversary_can_be_fooled(student: ICCLD, teacher: ICCLD, batch: Batch) -> None:
    """A few steps against a fixed discriminator make target latents pass for source ones."""
    torch.manual_seed(4)
    pupil, discriminator = deepcopy(student), LatentDiscriminator(8, width=16)
    nothing = replace(batch, labels=torch.full_like(batch.labels, 255))
    optimizer = torch.optim.Adam(pupil.denoiser.parameters(), lr=1e-3)
    losses = []
    for _ in range(6):
        _, result = _adversarial_only(
            pupil, teacher, discriminator, nothing, mixed=False, adversarial_weight=1.0
        )
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        losses.append(float(result.loss.detach()))
    assert losses[-1] < losses[0]
