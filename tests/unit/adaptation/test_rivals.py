"""Tests of the published methods that ICCLD is compared with. Each method runs with a deterministic head."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from scipy.special import softmax
from torch import Tensor, nn

from iccld.adaptation.adaptsegnet import AdaptSegNet, Advent
from iccld.adaptation.dacs import DACS, published_self_training
from iccld.adaptation.daformer import MIC, DAFormer, FeatureDistance
from iccld.adaptation.fda import FDA, MinEnt
from iccld.adaptation.losses import Adversary
from iccld.adaptation.method import Batch, Method
from iccld.adaptation.self_training import PseudoLabels, SelfTraining
from iccld.config import TrainConfig, with_settings
from iccld.labels import CAMVID11, LabelClass, LabelSpace
from iccld.models.iccld import ICCLD
from iccld.models.image_coder import CompactCoder
from iccld.models.networks import OutputDiscriminator, TrainingOutput

START = 10
NUM_CLASSES = len(CAMVID11)
# A threshold of 0, so that the pseudo-labels of an untrained teacher have weight.
TAUGHT = replace(published_self_training(), start_step=START, pseudo_labels=PseudoLabels("batch", 0.0))


MEAN_COLOR = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)  # of ImageNet


def _distance(*things: int, share: float = 0.75) -> FeatureDistance:
    """Returns the distance to a network with random weights that differ from the student's."""
    torch.manual_seed(9)
    return FeatureDistance(CompactCoder().requires_grad_(False).eval(), things, share=share)


def _adversary(kind: Any) -> Adversary:
    return Adversary(kind, weight=0.1, start_step=START, warmup_steps=0)


MAKE: dict[str, Callable[[], Any]] = {
    "adaptsegnet": lambda: AdaptSegNet(adversary=_adversary("probabilities")),
    "advent": lambda: Advent(adversary=_adversary("self_information")),
    "minent": lambda: MinEnt(start_step=START),
    "fda": lambda: FDA(start_step=START),
    "dacs": lambda: DACS(self_training=TAUGHT),
    "daformer": lambda: DAFormer(
        self_training=TAUGHT, feature_distance=_distance(*range(NUM_CLASSES), share=0.0)
    ),
    "mic": lambda: MIC(self_training=TAUGHT, feature_distance=_distance(*range(NUM_CLASSES), share=0.0)),
}
# Loss terms of each method after its start, besides the cross-entropy on source images.
TERMS = {
    "adaptsegnet": {"adversarial"},
    "advent": {"adversarial"},
    "minent": {"entropy_target"},
    "fda": {"entropy_target"},
    "dacs": {"seg_mixed"},
    "daformer": {"seg_mixed", "feature_distance"},
    "mic": {"seg_mixed", "seg_masked", "feature_distance"},
}
every_rival = pytest.mark.parametrize("name", list(MAKE))


def _opposed(name: str, discriminator: OutputDiscriminator) -> OutputDiscriminator | None:
    return discriminator if name in ("adaptsegnet", "advent") else None


def _logits(model: ICCLD, images: Tensor) -> Tensor:
    """Returns the logits of a prediction, computed by separate calls of the model's parts."""
    state = model.encode(images)
    return model.decode(model.sample(state, torch.zeros(len(images), 8, *state.latent_size))[0], state)


def _cross_entropy(model: ICCLD, images: Tensor, labels: Tensor) -> Tensor:
    """Returns the cross-entropy at the decoder's stride 2. Labels must be constant in 2×2 blocks."""
    return F.cross_entropy(_logits(model, images), labels[:, ::2, ::2], ignore_index=255)


def _at_image_size(logits: Tensor) -> np.ndarray:
    """Returns the probabilities of logits that are interpolated bilinearly to 64×64 pixels."""
    values = logits.detach().double().numpy()
    size = values.shape[-1]
    places = (np.arange(64) + 0.5) * size / 64 - 0.5
    low = np.clip(np.floor(places).astype(int), 0, size - 1)
    high = np.clip(np.floor(places).astype(int) + 1, 0, size - 1)
    share = places - np.floor(places)
    for axis in (2, 3):
        shape = [-1 if index == axis else 1 for index in range(4)]
        before, after = np.take(values, low, axis), np.take(values, high, axis)
        values = before + (after - before) * share.reshape(shape)
    return softmax(values, axis=1)


# -- every rival ------------------------------------------------------------------------------------------


@every_rival
def test_a_step(
    name: str,
    plain: ICCLD,
    plain_recorder: Any,
    plain_teacher: ICCLD,
    output_discriminator: OutputDiscriminator,
    batch: Batch,
    seeded: Any,
) -> None:
    """Checks names and values of the loss terms, and which networks get gradients."""
    method, discriminator = MAKE[name](), _opposed(name, output_discriminator)
    assert isinstance(method, Method)
    assert (method.labeled_domain, method.uses_target) == ("source", True)
    assert (method.adversary is not None) == (discriminator is not None)
    result = seeded(method, plain_recorder, plain_teacher, discriminator, batch, step=START)
    assert result.terms.keys() == {"seg_source"} | TERMS[name]
    for term, value in result.terms.items():
        assert bool(torch.isfinite(value)), term
        assert value.requires_grad, term
        assert f"train/loss_{term}" in result.logs
    assert not any(value.requires_grad for value in result.logs.values())
    torch.testing.assert_close(result.loss, sum(result.terms.values()))
    assert result.denoised is plain_recorder.said.denoised
    result.loss.backward()
    for part in (plain.image_coder, plain.denoiser, plain.label_decoder):
        assert sum(float(p.grad.abs().sum()) for p in part.parameters() if p.grad is not None) > 0
    assert all(p.grad is None for p in plain.label_encoder.parameters()), "no labels are encoded"
    assert all(p.grad is None for p in plain_teacher.parameters())
    assert all(p.grad is None for p in output_discriminator.parameters())


@every_rival
def test_every_further_term_reaches_the_image_coder(
    name: str,
    plain: ICCLD,
    plain_teacher: ICCLD,
    output_discriminator: OutputDiscriminator,
    batch: Batch,
    seeded: Any,
) -> None:
    discriminator = _opposed(name, output_discriminator)
    result = seeded(MAKE[name](), plain, plain_teacher, discriminator, batch, step=START)
    weights = list(plain.image_coder.parameters())
    for term in TERMS[name]:
        gradients = torch.autograd.grad(result.terms[term], weights, retain_graph=True, allow_unused=True)
        assert sum(float(g.abs().sum()) for g in gradients if g is not None) > 0, term


@every_rival
def test_before_the_start_it_is_cross_entropy_on_source(
    name: str,
    plain: ICCLD,
    plain_teacher: ICCLD,
    output_discriminator: OutputDiscriminator,
    batch: Batch,
    seeded: Any,
) -> None:
    discriminator = _opposed(name, output_discriminator)
    result = seeded(MAKE[name](), plain, plain_teacher, discriminator, batch, step=START - 1)
    assert result.terms.keys() == {"seg_source"} | (TERMS[name] & {"feature_distance"})
    assert result.domain_maps is None
    images = _fourier(batch, 0.05) if name == "fda" else batch.images  # its transfer acts from the first step
    expected = _cross_entropy(plain, images, batch.labels)
    torch.testing.assert_close(result.terms["seg_source"], expected, atol=1e-4, rtol=1e-4)


@every_rival
def test_source_labels_alone_are_given(
    name: str,
    plain_recorder: Any,
    plain_teacher: ICCLD,
    output_discriminator: OutputDiscriminator,
    batch: Batch,
    seeded: Any,
) -> None:
    """A batch has no field for labels of ``target_images``. Their labels come from the teacher."""
    assert {f.name for f in fields(Batch)} == {
        "images", "labels", "num_target_labeled", "target_images", "target_valid", "valid"
    }  # fmt: skip
    method, discriminator = MAKE[name](), _opposed(name, output_discriminator)
    seeded(method, plain_recorder, plain_teacher, discriminator, batch, step=START)
    images, labels, times, _ = plain_recorder.asked
    assert torch.equal(labels[:2], batch.labels)
    assert len(images) == len(times) == 2 * (1 + max(1, len(TERMS[name] & {"seg_mixed", "seg_masked"})))
    if name in ("adaptsegnet", "advent", "minent", "fda"):
        assert len(labels) == 2
        assert torch.equal(images[2:], batch.target_images)
    else:
        assert len(labels) == len(images)
        allowed = {*_logits(plain_teacher, batch.target_images).argmax(dim=1).unique().tolist()}
        allowed |= {*batch.labels.unique().tolist()}
        assert {*labels[2:].unique().tolist()} <= allowed


# -- adversaries on class maps -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adaptsegnet", "advent"])
def test_what_the_discriminator_sees(
    name: str,
    plain: ICCLD,
    plain_recorder: Any,
    plain_teacher: ICCLD,
    output_discriminator: OutputDiscriminator,
    batch: Batch,
    seeded: Any,
) -> None:
    assert batch.target_images is not None
    method = MAKE[name]()
    result = seeded(method, plain_recorder, plain_teacher, output_discriminator, batch, step=START)
    assert result.domain_maps.counts == (2, 0, 2)
    assert bool((result.domain_maps.times == 1).all()), "a deterministic head stands at the end of the noise"
    p = _at_image_size(_logits(plain, torch.cat([batch.images, batch.target_images])))
    expected = p if name == "adaptsegnet" else -p * np.log(p) / np.log(NUM_CLASSES)
    np.testing.assert_allclose(result.domain_maps.maps.numpy(), expected, atol=1e-5)
    if name == "advent":
        entropy = stats.entropy(p, axis=1) / np.log(NUM_CLASSES)
        np.testing.assert_allclose(result.domain_maps.maps.sum(dim=1).numpy(), entropy, atol=1e-5)

    # Equation 10 for target images only. The discriminator's loss must not give gradients to the segmenter.
    said = output_discriminator(result.domain_maps.maps[2:], result.domain_maps.times[2:])
    plain_loss = -said.log_softmax(dim=1)[:, 0].mean()
    expected_term = 0.1 * result.logs["train/adversarial_relief"] * plain_loss
    torch.testing.assert_close(result.terms["adversarial"], expected_term, atol=1e-6, rtol=1e-4)
    assert not result.domain_maps.maps.requires_grad
    method.adversary.discriminator_loss(output_discriminator, result.domain_maps)[0].backward()
    assert all(p.grad is None for p in plain.parameters())
    assert all(p.grad is not None for p in output_discriminator.parameters())


# -- entropy -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["minent", "fda"])
def test_entropy_is_of_the_target(
    name: str, plain: ICCLD, plain_teacher: ICCLD, batch: Batch, seeded: Any
) -> None:
    assert batch.target_images is not None
    method = replace(MAKE[name](), weight=0.3)
    result = seeded(method, plain, plain_teacher, None, batch, step=START)
    logits = _logits(plain, batch.target_images).detach()
    if name == "minent":  # at the image's size
        expected = (stats.entropy(_at_image_size(logits), axis=1) / np.log(NUM_CLASSES)).mean()
    else:  # at the network's own stride
        entropy = stats.entropy(logits.double().softmax(dim=1).numpy(), axis=1) / np.log(NUM_CLASSES)
        expected = ((entropy**2 + 1e-8) ** 2).mean()
    assert float(result.logs["train/loss_entropy_target"]) == pytest.approx(expected, rel=1e-4)
    assert float(result.terms["entropy_target"].detach()) == pytest.approx(0.3 * expected, rel=1e-4)


@pytest.mark.parametrize("name", ["minent", "fda"])
def test_following_the_entropy_makes_target_predictions_surer(
    name: str, plain: ICCLD, plain_teacher: ICCLD, batch: Batch, seeded: Any
) -> None:
    pupil, method = deepcopy(plain), replace(MAKE[name](), weight=1.0)
    optimizer = torch.optim.Adam(pupil.label_decoder.parameters(), lr=1e-3)
    terms = []
    for _ in range(5):
        term = seeded(method, pupil, plain_teacher, None, batch, step=START).terms["entropy_target"]
        optimizer.zero_grad()
        term.backward()
        optimizer.step()
        terms.append(float(term.detach()))
    assert terms[-1] < terms[0]


def _fourier(batch: Batch, band: float) -> Tensor:
    """Returns the result of FDA's transfer in numpy, with the spectrum centered as in the published code."""
    assert batch.target_images is not None
    source, style = (
        np.fft.fftshift(np.fft.fft2(x.double().numpy()), axes=(-2, -1))
        for x in (batch.images, batch.target_images)
    )
    height, width = source.shape[-2:]
    reach, row, column = int(min(height, width) * band), height // 2, width // 2
    square = np.s_[..., row - reach : row + reach + 1, column - reach : column + reach + 1]
    amplitude = np.abs(source)
    amplitude[square] = np.abs(style)[square]
    mixed = np.fft.ifftshift(amplitude * np.exp(1j * np.angle(source)), axes=(-2, -1))
    return torch.from_numpy(np.fft.ifft2(mixed).real).float()


def test_fda_restyles_the_source_alone(
    plain_recorder: Any, plain_teacher: ICCLD, batch: Batch, seeded: Any
) -> None:
    given = batch.images.clone()
    seeded(MAKE["fda"](), plain_recorder, plain_teacher, None, batch, step=START)
    images = plain_recorder.asked[0]
    torch.testing.assert_close(images[:2], _fourier(batch, 0.05), atol=1e-4, rtol=0)
    assert torch.equal(images[2:], batch.target_images)
    assert torch.equal(batch.images, given), "the batch is left alone"
    assert not torch.allclose(images[:2], given, atol=0.01)


# -- self-training -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "code", "jitter"), [(DACS, "dacs", 0.25), (DAFormer, "daformer", 0.2)])
def test_self_training_of_the_published_codes(method: Any, code: str, jitter: float) -> None:
    training = method().self_training
    labels = training.pseudo_labels
    assert (labels.weighting, labels.threshold) == ("batch", 0.968)
    assert (training.mixing, training.code, training.jitter, training.start_step) == (
        "classmix",
        code,
        jitter,
        0,
    )


@pytest.mark.usefixtures("undisguised")
@pytest.mark.parametrize("name", ["dacs", "daformer", "mic"])
def test_self_training_branches(
    name: str,
    plain: ICCLD,
    plain_recorder: Any,
    plain_teacher: ICCLD,
    batch: Batch,
    opinion: Any,
    seeded: Any,
) -> None:
    """Mixed and masked images have the teacher's labels, weighted by the teacher's confidence."""
    assert batch.target_images is not None
    labels = torch.randint(0, NUM_CLASSES, (2, 8, 8), generator=torch.Generator().manual_seed(5))
    labels = labels.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    confidence = torch.full((2, 64, 64), 0.5)
    confidence[0, :16] = 0.99  # an eighth of all pixels of the batch, whether valid or not
    assert opinion(plain_teacher, labels, confidence) == []
    training = SelfTraining(
        start_step=START, pseudo_labels=PseudoLabels("batch", 0.968), mask_patch=16, mask_ratio=0.5
    )
    method = replace(MAKE[name](), self_training=training)
    result = seeded(method, plain_recorder, plain_teacher, None, batch, step=START)
    images, asked, _, _ = plain_recorder.asked
    pasted = (images[2:4] == batch.images).all(dim=1)
    assert 0.2 < float(pasted.float().mean()) < 0.8
    assert torch.equal(asked[2:4], torch.where(pasted, batch.labels, labels))
    weights = torch.zeros(2, 64, 64)
    weights[:, :60] = 0.125
    terms = {"mixed": (slice(2, 4), torch.where(pasted, 1.0, weights))}
    if name == "mic":
        hidden = (images[4:6] == MEAN_COLOR).all(dim=1)
        squares = hidden.unflatten(2, (4, 16)).unflatten(1, (4, 16)).float().mean(dim=(2, 4))
        assert set(squares.unique().tolist()) == {0.0, 1.0}
        shown = torch.where(hidden[:, None], MEAN_COLOR, batch.target_images)
        assert torch.equal(images[4:6], shown)
        assert torch.equal(asked[4:6], labels)
        terms["masked"] = (slice(4, 6), weights)
    for domain, (rows, weight) in terms.items():
        log_p = _logits(plain, images[rows]).detach().log_softmax(dim=1)
        truth = asked[rows][:, ::2, ::2]
        picked = log_p.gather(1, truth.where(truth != 255, 0)[:, None])[:, 0]
        each = -(picked * (truth != 255))
        values = []  # one of every 2×2 block, at a phase that the loss draws
        for top in range(2):
            for left in range(2):
                share = weight[:, top::2, left::2]
                values.append(float((each * share).sum() / (truth != 255).sum()))
        term = float(result.terms[f"seg_{domain}"].detach())
        assert min(abs(term - value) for value in values) < 1e-4, (term, values)
        mean = float(result.logs[f"train/pseudo_label_weight_{domain}"])
        assert mean == pytest.approx(float(weight.mean()), rel=1e-5)


def test_mic_hides_what_its_settings_say(
    plain_recorder: Any, plain_teacher: ICCLD, batch: Batch, seeded: Any
) -> None:
    training = replace(TAUGHT, mask_patch=8, mask_ratio=1.0)
    seeded(replace(MAKE["mic"](), self_training=training), plain_recorder, plain_teacher, None, batch, START)
    assert bool((plain_recorder.asked[0][4:6] == MEAN_COLOR).all())


# -- the distance to pretrained features -------------------------------------------------------------------


def _output(coarse: Tensor) -> TrainingOutput:
    empty = torch.zeros(len(coarse), 1, 2, 2)
    return TrainingOutput(empty, denoised=empty, features=empty, coarse=coarse, times=torch.ones(len(coarse)))


def _things(batch: Batch, share: float) -> Batch:
    """Labels a fraction of the pixels in the top left cell of the first image as a thing class, and no other pixels."""
    labels = torch.full_like(batch.labels, 7)
    labels[0, : round(32 * share), :32] = 3
    return replace(batch, labels=labels)


def test_features_that_did_not_move_are_no_distance_away(
    plain: ICCLD, plain_teacher: ICCLD, batch: Batch, seeded: Any
) -> None:
    kept = deepcopy(plain.image_coder).requires_grad_(False).eval()
    distance = FeatureDistance(kept, things=tuple(range(NUM_CLASSES)), weight=1.0, share=0.0)
    method = DAFormer(feature_distance=distance)
    result = seeded(method, plain, plain_teacher, None, batch)
    assert 0 <= float(result.terms["feature_distance"].detach()) < 2e-3
    result.terms["feature_distance"].backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in plain.parameters() if p.grad is not None)
    other = replace(distance, pretrained=_distance().pretrained)
    moved = seeded(replace(method, feature_distance=other), plain, plain_teacher, None, batch)
    assert float(moved.terms["feature_distance"].detach()) > 0.1


@pytest.mark.parametrize(("share", "counts"), [(1.0, True), (0.75, True), (0.72, False), (0.0, False)])
def test_only_cells_of_things_count(share: float, counts: bool, batch: Batch) -> None:
    distance, given = _distance(0, 1, 2, 3, 4), _things(batch, share)
    with torch.no_grad():
        expected = distance.pretrained(batch.images)[32]
    coarse = expected + torch.randn(expected.shape, generator=torch.Generator().manual_seed(0))
    value = float(distance(_output(coarse), given))
    norm = float((coarse - expected)[0, :, 0, 0].norm())
    assert value == pytest.approx(0.005 * norm if counts else 0.0, rel=1e-4)
    doubled = float(replace(distance, weight=0.01)(_output(coarse), given))
    assert doubled == pytest.approx(2 * value)


def test_distances_are_averaged_over_cells(batch: Batch) -> None:
    distance, given = replace(_distance(0, 1, 2, 3, 4), weight=1.0), _things(batch, 1.0)
    given.labels[1] = 0
    with torch.no_grad():
        expected = distance.pretrained(batch.images)[32]
    coarse = expected + torch.randn(expected.shape, generator=torch.Generator().manual_seed(0))
    norms = (coarse - expected).norm(dim=1)
    mean = np.mean([float(norms[0, 0, 0]), *norms[1].flatten().tolist()])
    # Rows after the source images belong to other branches and are ignored.
    more = torch.cat([coarse, torch.full_like(coarse, 99.0)])
    assert float(distance(_output(more), given)) == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize(("height", "width"), [(72, 96), (32, 96)])
def test_padded_crops_are_no_distance_away_either(
    height: int, width: int, plain: ICCLD, plain_teacher: ICCLD, seeded: Any
) -> None:
    kept = deepcopy(plain.image_coder).requires_grad_(False).eval()
    distance = FeatureDistance(kept, things=(3,), weight=1.0)
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    given = Batch(images, torch.full((2, height, width), 3))
    result = seeded(DAFormer(feature_distance=distance), plain, plain_teacher, None, given)
    assert float(result.terms["feature_distance"].detach()) < 2e-3


def test_the_pretrained_network_is_not_trained(batch: Batch) -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, images: Tensor) -> dict[int, Tensor]:
            return {32: self.scale * F.avg_pool2d(images, 32)}

    pretrained = Counting()
    coarse = torch.randn(2, 3, 2, 2, requires_grad=True)
    FeatureDistance(pretrained, tuple(range(11)))(_output(coarse), batch).backward()
    assert coarse.grad is not None
    assert pretrained.scale.grad is None


@pytest.mark.parametrize(
    ("names", "things"),
    [
        (CAMVID11.names, {"sign", "person", "bicyclist", "car"}),
        (("drivable", "non-drivable", "living thing", "vehicle", "sky"), {"living thing", "vehicle"}),
        (("background", "weld"), set()),
    ],
)
def test_thing_classes_are_found_by_name(names: tuple[str, ...], things: set[str]) -> None:
    space = LabelSpace("own", tuple(LabelClass(name, (1, 2, 3)) for name in names))
    config = with_settings(TrainConfig(), {"method": "daformer", "model.backbone": "efficientnet_lite0"})
    distance = FeatureDistance.from_config(config, space)
    # Without thing classes, there is no loss. A loss over zero classes would fail at the first step.
    assert (distance is None) == (not things)
    assert {names[index] for index in (distance.things if distance else ())} == things
