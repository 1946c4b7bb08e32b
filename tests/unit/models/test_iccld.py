"""Tests of the whole model: all backbones, the switches and the training pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD, add_noise
from iccld.models.networks import TrainingOutput

BACKBONES = ("compact", "efficientnet_lite0", "mit_b0", "convnextv2", "swin", "dinov2")
every_backbone = pytest.mark.parametrize("backbone", BACKBONES, indirect=True)

# Parameters of ``transformers`` networks that do not affect the features of a backbone.
IDLE = {"swin.layernorm.weight", "swin.layernorm.bias", "embeddings.mask_token"}


def _build(**settings: Any) -> ICCLD:
    """Builds a small model without zero weights, because layers with zero initialization would hide errors."""
    torch.manual_seed(0)
    model = ICCLD(CAMVID11, **{"width": 32, **settings})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter))
    return model.eval()


def _images(b: int = 2, height: int = 64, width: int = 96) -> Tensor:
    return torch.rand(b, 3, height, width, generator=torch.Generator().manual_seed(1))


def _labels(b: int = 2, height: int = 64, width: int = 96) -> Tensor:
    labels = torch.randint(0, 11, (b, height, width), generator=torch.Generator().manual_seed(2))
    labels[:, :5] = 255
    return labels


def _train_pass(model: ICCLD, num_labeled: int = 2, num: int = 2, **settings: Any) -> TrainingOutput:
    torch.manual_seed(3)
    aligned = torch.arange(num) % 2 == 0
    times = torch.linspace(0.3, 1, num)
    return model(_images(num), _labels(num_labeled), times, aligned, **settings)


def _total(output: TrainingOutput) -> Tensor:
    """Returns a loss that depends on all outputs of a training pass."""
    return (
        output.logits.square().mean()
        + output.reconstruction.square().mean()
        + output.denoised.square().mean()
    )


# -- every backbone ----------------------------------------------------------------------------------


@every_backbone
def test_pyramid(backbone: str) -> None:
    model = _build(backbone=backbone)
    channels = model.image_coder.channels
    assert {8, 16, 32} <= set(channels) <= {2, 4, 8, 16, 32}
    assert 4 in channels
    with torch.no_grad():
        features = model.image_coder(_images())
    assert set(features) == set(channels)
    for stride, map_ in features.items():
        assert map_.shape == (2, channels[stride], 64 // stride, 96 // stride)
        assert bool(torch.isfinite(map_).all())


@every_backbone
def test_the_image_matters_at_every_stride(backbone: str) -> None:
    coder = _build(backbone=backbone).image_coder
    with torch.no_grad():
        one, other = coder(_images()), coder(_images().flip(1))
    for stride in one:
        assert not torch.equal(one[stride], other[stride])


@every_backbone
def test_every_weight_learns(backbone: str) -> None:
    """Distributed training fails if a weight has no gradient."""
    model = _build(backbone=backbone).train()
    _total(_train_pass(model)).backward()
    for name, parameter in model.named_parameters():
        if any(name.endswith(idle) for idle in IDLE):
            continue
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
    for part in (model.image_coder, model.label_encoder, model.denoiser, model.label_decoder):
        assert sum(float(p.grad.abs().sum()) for p in part.parameters() if p.grad is not None) > 0


def test_every_weight_learns_with_light_steps() -> None:
    model = _build(light_steps=True).train()
    _total(_train_pass(model)).backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert idle == []


def test_light_steps_run_the_unet_once_an_image() -> None:
    """The U-Net runs once, for any number of steps and draws."""
    model = _build(light_steps=True)
    seen = {"neck.middle": 0, "label_decoder.blocks.0": 0, "denoiser.middle": 0}

    def count(name: str) -> None:
        seen[name] += 1

    for name in seen:
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: count(name))
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    model.predict(image, steps=4, draws=8)
    assert seen == {"neck.middle": 1, "label_decoder.blocks.0": 1, "denoiser.middle": 4 * 8}


def test_light_steps_train_without_diffusion_and_label_coder() -> None:
    model = _build(light_steps=True, diffusion=False)
    output = _train_pass(model, label_coder=False)
    output.logits.square().mean().backward()
    idle = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is None}
    assert idle == {"label_encoder"}


def test_light_steps_are_saved_and_loaded(tmp_path: Path) -> None:
    model = _build(light_steps=True)
    model.save_pretrained(tmp_path)
    again = ICCLD.from_pretrained(tmp_path)
    assert again.spec.light_steps
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    first, second = (m.predict(image, steps=2, draws=2).probabilities for m in (model, again))
    np.testing.assert_array_equal(first, second)


def test_a_light_step_costs_little_beside_the_image() -> None:
    """A second light step adds less than 12 % FLOPs to a pass with one step, a second usual step more than 30 %."""
    from torch.utils.flop_counter import FlopCounterMode

    shares = {}
    for light in (False, True):
        model = ICCLD(CAMVID11, backbone="mit_b0", light_steps=light).eval()
        costs = []
        for steps in (1, 2):
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                state = model.encode(torch.rand(1, 3, 256, 512))
                model.segment(state, torch.randn(1, 16, 32, 64), steps)
            costs.append(counter.get_total_flops())
        shares[light] = costs[1] / costs[0] - 1
    assert shares[True] < 0.12 < 0.3 < shares[False]


@every_backbone
def test_any_image_size(backbone: str) -> None:
    model = _build(backbone=backbone)
    image = np.random.default_rng(0).integers(0, 256, (70, 101, 3), dtype=np.uint8)
    prediction = model.predict(image)
    assert prediction.labels.shape == (70, 101)
    assert np.isfinite(prediction.probabilities).all()
    output = model(_images(1, 70, 101), _labels(1, 70, 101), torch.ones(1), torch.ones(1, dtype=torch.bool))
    stride = model.label_decoder.out_stride
    assert output.logits.shape == (1, 11, -(-70 // stride), -(-101 // stride))


# -- the switches ------------------------------------------------------------------------------------


class _Altered(nn.Module):
    """An image coder whose features at some strides are noise."""

    def __init__(self, coder: nn.Module, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.coder, self.strides = coder, strides
        self.channels = coder.channels

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        features: dict[int, Tensor] = self.coder(images)
        return {s: torch.randn_like(f) if s in self.strides else f for s, f in features.items()}


def _answer(model: ICCLD, strides: tuple[int, ...], part: Callable[[ICCLD], Tensor]) -> Tensor:
    coder = model.image_coder
    model.image_coder = _Altered(coder, strides)
    try:
        torch.manual_seed(7)
        with torch.no_grad():
            return part(model)
    finally:
        model.image_coder = coder


def _denoised(model: ICCLD) -> Tensor:
    state = model.encode(_images())
    noise = torch.randn(2, 16, 8, 12, generator=torch.Generator().manual_seed(4))
    return model.sample(state, noise, 2)[0]


def _decoded(model: ICCLD) -> Tensor:
    state = model.encode(_images())
    return model.decode(torch.randn(2, 16, 8, 12, generator=torch.Generator().manual_seed(4)), state)


light_or_not = pytest.mark.parametrize("light", [False, True])


@light_or_not
@pytest.mark.parametrize(("links", "expected"), [(True, {8, 16, 32}), (False, {32})])
def test_context_links_are_what_the_denoiser_sees(links: bool, expected: set[int], light: bool) -> None:
    model = _build(context_links=links, reencoding=False, light_steps=light)
    plain = _answer(model, (), _denoised)
    seen = {s for s in (2, 4, 8, 16, 32) if not torch.equal(_answer(model, (s,), _denoised), plain)}
    assert seen == expected


@light_or_not
@pytest.mark.parametrize(("links", "expected"), [(True, {2, 4, 8, 16, 32}), (False, {8, 16, 32})])
def test_reencoding_takes_the_detail_links_to_the_denoiser(
    links: bool, expected: set[int], light: bool
) -> None:
    model = _build(detail_links=links, light_steps=light)
    plain = _answer(model, (), _denoised)
    seen = {s for s in (2, 4, 8, 16, 32) if not torch.equal(_answer(model, (s,), _denoised), plain)}
    assert seen == expected


def test_a_reencoded_latent_is_that_of_the_labels_answered() -> None:
    model = _build()
    with torch.no_grad():
        state = model.encode(_images())
        latent = torch.randn(2, 16, 8, 12, generator=torch.Generator().manual_seed(4))
        labels = model.decode(latent, state).argmax(dim=1)
        assert len(labels.unique()) > 1
        full = labels.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
        torch.testing.assert_close(model.reencode(latent, state)[0], model.encode_labels(full))


def test_padding_is_reencoded_as_no_class() -> None:
    """In training, padding is labeled as no class too."""
    model = _build()
    with torch.no_grad():
        state = model.encode(_images()[..., :50, :70])
        latent = torch.randn(2, 16, 8, 12, generator=torch.Generator().manual_seed(4))
        labels = model.decode(latent, state).argmax(dim=1)
        full = labels.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
        assert full.shape[-2:] == (50, 70)
        torch.testing.assert_close(model.reencode(latent, state)[0], model.encode_labels(full))


@pytest.mark.parametrize("reencoding", [True, False])
def test_later_steps_count_more_where_each_is_decoded(reencoding: bool) -> None:
    model = _build(reencoding=reencoding)
    seen: list[Tensor] = []
    handle = model.denoiser.register_forward_hook(lambda *call: seen.append(call[-1][0]))
    with torch.no_grad():
        state = model.encode(_images()[..., :50, :70])
        noise = torch.randn(2, 16, 8, 12, generator=torch.Generator().manual_seed(4))
        answer = model.segment(state, noise, 3)
        handle.remove()
        each = [model.decode(latent, state).softmax(dim=1) for latent in seen]
    assert len(each) == 3
    expected = (each[0] + 2 * each[1] + 3 * each[2]) / 6 if reencoding else each[2]
    torch.testing.assert_close(answer, expected)


@pytest.mark.parametrize(("links", "expected"), [(True, {2, 4}), (False, set())])
def test_detail_links_are_what_the_decoder_sees(links: bool, expected: set[int]) -> None:
    model = _build(detail_links=links)
    plain = _answer(model, (), _decoded)
    seen = {s for s in (2, 4, 8, 16, 32) if not torch.equal(_answer(model, (s,), _decoded), plain)}
    assert seen == expected


@pytest.mark.parametrize(("links", "expected"), [(True, {2, 4, 8, 16, 32}), (False, set())])
def test_detail_links_of_light_steps_know_the_neck(links: bool, expected: set[int]) -> None:
    model = _build(detail_links=links, light_steps=True)
    plain = _answer(model, (), _decoded)
    seen = {s for s in (2, 4, 8, 16, 32) if not torch.equal(_answer(model, (s,), _decoded), plain)}
    assert seen == expected


@pytest.mark.parametrize("diffusion", [True, False])
def test_without_diffusion_noise_and_steps_do_not_matter(diffusion: bool) -> None:
    model = _build(diffusion=diffusion)
    image = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    first = model.predict(image, seed=0).probabilities
    assert np.array_equal(first, model.predict(image, seed=1).probabilities) != diffusion
    assert np.array_equal(first, model.predict(image, steps=3).probabilities) != diffusion
    disagreement = model.predict(image, draws=3).mutual_information.max()
    assert (disagreement > 1e-5) == diffusion
    torch.manual_seed(3)
    early = model(_images(), _labels(), torch.full((2,), 0.1), torch.zeros(2, dtype=torch.bool)).denoised
    torch.manual_seed(4)
    late = model(_images(), _labels(), torch.ones(2), torch.ones(2, dtype=torch.bool)).denoised
    assert torch.equal(early, late) != diffusion


def test_training_without_diffusion_is_the_prediction() -> None:
    model = _build(diffusion=False)
    with torch.no_grad():
        output = _train_pass(model)
        state = model.encode(_images())
        logits = model.decode(model.sample(state, model.draw_noise(state, 2))[0], state)
    torch.testing.assert_close(output.logits, logits)


# -- the training pass -------------------------------------------------------------------------------


def test_training_pass_shapes() -> None:
    model = _build()
    output = _train_pass(model, num_labeled=2, num=3)
    assert output.logits.shape == output.reconstruction.shape == (2, 11, 32, 48)
    assert output.denoised.shape == (3, 16, 8, 12)
    assert output.clean.shape == (2, 16, 8, 12)
    assert not output.clean.requires_grad
    assert output.denoised.requires_grad


@pytest.mark.parametrize("known", [None, 1])
def test_training_pass_is_the_equations(known: int | None) -> None:
    """Computes the training pass again, with separate calls of the parts."""
    model = _build()
    times, aligned = torch.tensor([0.4, 0.7, 0.6]), torch.tensor([False, True, False])
    images, labels = _images(3), _labels(2)
    torch.manual_seed(5)
    output = model(images, labels, times, aligned, num_reconstructed=known, reconstruction_noise=0.2)
    torch.manual_seed(5)
    with torch.no_grad():
        state = model.encode(images)
        clean = model.encode_labels(labels)
        noise = torch.randn(3, 16, 8, 12)
        some = state.take(slice(1, 3))  # the self-aligned sample, and the sample without a label
        own = model.denoiser(noise[1:], torch.ones(2), some.context)[0]
        start = torch.cat([clean[:1], model.reencode(own, some)[0]])
        noisy = add_noise(start, noise, times)
        denoised = model.denoiser(noisy, times, state.context)[0]
        num = known or 2
        disturbed = clean[:num] + 0.2 * torch.randn(num, 16, 8, 12)
        logits = model.decode(denoised[:2], state.take(slice(2)))
        reconstruction = model.decode(disturbed, state.take(slice(num)))
    torch.testing.assert_close(output.clean, clean)
    torch.testing.assert_close(output.denoised, denoised)
    torch.testing.assert_close(output.logits, logits)
    torch.testing.assert_close(output.reconstruction, reconstruction)


def test_features_are_those_that_the_latent_and_the_links_come_from() -> None:
    model = _build()
    with torch.no_grad():
        output = _train_pass(model, num_labeled=2, num=3)
        read_off = model.denoiser.out(nn.functional.silu(output.features))
        torch.testing.assert_close(read_off, output.denoised)
        torch.testing.assert_close(output.coarse, model.image_coder(_images(3))[32])
    assert output.features.shape == (3, 32, 8, 12)


@pytest.mark.parametrize("diffusion", [True, False])
def test_all_images_are_decoded_where_asked(diffusion: bool) -> None:
    model = _build(diffusion=diffusion)
    with torch.no_grad():
        some = _train_pass(model, num_labeled=2, num=3)
        all_ = _train_pass(model, num_labeled=2, num=3, decode_all=True)
        last = model.decode(all_.denoised[2:], model.encode(_images(3)).take(slice(2, 3)))
    assert (len(some.logits), len(all_.logits)) == (2, 3)
    torch.testing.assert_close(all_.logits[:2], some.logits)
    torch.testing.assert_close(all_.logits[2:], last, atol=1e-4, rtol=1e-4)
    for ours, theirs in ((all_.reconstruction, some.reconstruction), (all_.clean, some.clean)):
        assert len(ours) == 2
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("decode_all", [True, False])
def test_a_deterministic_head_trains_without_the_label_coder(decode_all: bool) -> None:
    model = _build(diffusion=False).train()
    with torch.no_grad():
        full = _train_pass(model, num=3, decode_all=decode_all)
    model.label_encoder = nn.Identity()  # must not be called: it gives no latent
    output = _train_pass(model, num=3, decode_all=decode_all, label_coder=False)
    assert (output.clean, output.reconstruction) == (None, None)
    assert len(output.logits) == (3 if decode_all else 2)
    torch.testing.assert_close(output.logits.detach(), full.logits)
    torch.testing.assert_close(output.denoised.detach(), full.denoised)


def test_without_the_label_coder_its_encoder_gets_no_gradient() -> None:
    model = _build(diffusion=False).train()
    output = _train_pass(model, label_coder=False)
    (output.logits.square().mean() + output.denoised.square().mean()).backward()
    assert all(p.grad is None for p in model.label_encoder.parameters())
    for name, parameter in model.named_parameters():
        if not name.startswith("label_encoder."):
            assert parameter.grad is not None, name


def test_diffusion_needs_the_label_coder() -> None:
    with pytest.raises(AssertionError, match="label encoder"):
        _train_pass(_build(), label_coder=False)


def test_segmentation_does_not_teach_the_label_encoder() -> None:
    """Only the reconstruction trains the label encoder. Otherwise the latent could collapse to a constant."""
    model = _build().train()
    output = _train_pass(model)
    (output.logits.square().mean() + output.denoised.square().mean()).backward(retain_graph=True)
    assert all(p.grad is None or not bool(p.grad.any()) for p in model.label_encoder.parameters())
    output.reconstruction.square().mean().backward()
    assert all(p.grad is not None for p in model.label_encoder.parameters())


def test_the_callers_choice_of_aligned_samples_is_not_overwritten() -> None:
    model, aligned = _build(), torch.zeros(3, dtype=torch.bool)
    model(_images(3), _labels(1), torch.ones(3), aligned)
    assert not bool(aligned.any())


def test_nothing_labeled_gives_finite_gradients() -> None:
    model = _build().train()
    output = model(
        _images(), torch.full((2, 64, 96), 255), torch.full((2,), 0.5), torch.zeros(2, dtype=torch.bool)
    )
    _total(output).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or bool(torch.isfinite(parameter.grad).all()), name


def test_state_is_repeated_image_by_image() -> None:
    model = _build()
    with torch.no_grad():
        state = model.encode(_images())
    twice = state.repeat(2)
    for ours, theirs in zip([*twice.context, *twice.details], [*state.context, *state.details], strict=True):
        assert torch.equal(ours, torch.stack([theirs[0], theirs[0], theirs[1], theirs[1]]))
    assert torch.equal(state.take(slice(1, 2)).context[0], state.context[0][1:])


def test_noise_is_the_cpus_and_the_same_everywhere() -> None:
    model = _build()
    with torch.no_grad():
        state = model.encode(_images(1))
    torch.manual_seed(11)
    ours = model.draw_noise(state, 2)
    torch.manual_seed(11)
    assert torch.equal(ours, torch.randn(2, 16, 8, 12))
