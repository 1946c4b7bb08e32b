"""Label coder, denoiser, discriminator and their building blocks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from iccld.adaptation.losses import domain_loss
from iccld.models.layers import ResidualBlock, TimeEmbedding, group_norm, upsample_to
from iccld.models.light import ImageNeck, LightDecoder, LightDenoiser
from iccld.models.networks import (
    NUM_DOMAINS,
    Denoiser,
    LabelDecoder,
    LabelEncoder,
    LatentDiscriminator,
    OutputDiscriminator,
    unit_rms,
)


def _shake(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()


def test_latents_have_unit_scale_in_every_labeled_cell() -> None:
    encoder = _shake(LabelEncoder(6, 8))
    latent = encoder(torch.randint(0, 6, (2, 32, 48)))
    assert latent.shape == (2, 8, 4, 6)
    torch.testing.assert_close(latent.square().mean(dim=1), torch.ones(2, 4, 6), atol=1e-3, rtol=0)


@given(scale=st.floats(0.1, 1e3))
def test_unit_rms_forgets_the_scale(scale: float) -> None:
    latent = torch.randn(1, 4, 2, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(unit_rms(scale * latent), unit_rms(latent), atol=1e-3, rtol=1e-3)


def test_zero_stays_zero() -> None:
    assert not bool(unit_rms(torch.zeros(1, 4, 2, 2)).any())


@pytest.mark.parametrize("untrained", [True, False])
def test_classes_have_latents_of_their_own(untrained: bool) -> None:
    encoder = LabelEncoder(6, 8)
    encoder = encoder if untrained else _shake(encoder)
    with torch.no_grad():
        latents = torch.cat([encoder(torch.full((1, 8, 8), label)) for label in range(6)]).flatten(1)
    distances = torch.cdist(latents, latents) + 99 * torch.eye(6)
    assert float(distances.min()) > 0.5


def test_everything_outside_the_classes_is_ignored() -> None:
    encoder = _shake(LabelEncoder(6, 8))
    labels = torch.randint(0, 6, (1, 16, 16))
    labels[:, 4:9, 3:8] = 255
    other = labels.clone()
    other[labels == 255] = 77
    assert torch.equal(encoder(labels), encoder(other))


every_decoder = pytest.mark.parametrize("kind", [LabelDecoder, LightDecoder])


@every_decoder
def test_decoder_without_details_reads_the_latent_alone(kind: type[LabelDecoder]) -> None:
    decoder = kind(5, 4, {2: 8, 4: 8, 8: 8, 16: 8, 32: 8}, detail_links=False, width=32)
    assert decoder.project({}) == []
    assert decoder(torch.randn(1, 4, 4, 4), [], (32, 32)).shape == (1, 5, 16, 16)


@every_decoder
def test_decoder_ends_at_the_finest_stride_there_is(kind: type[LabelDecoder]) -> None:
    for channels, stride in (({2: 8, 4: 8, 8: 8, 16: 8, 32: 8}, 2), ({4: 8, 8: 8, 16: 8, 32: 8}, 4)):
        decoder = kind(5, 4, channels, width=32)
        features = {s: torch.randn(1, c, 64 // s, 96 // s) for s, c in channels.items()}
        logits = decoder(torch.randn(1, 4, 8, 12), decoder.project(features), (64, 96))
        assert decoder.out_stride == stride
        assert logits.shape == (1, 5, 64 // stride, 96 // stride)


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("light", [False, True])
def test_denoiser_knows_the_time(links: bool, light: bool) -> None:
    channels = {4: 8, 8: 8, 16: 12, 32: 16}
    whole = Denoiser(4, channels, context_links=links, width=24)
    denoiser = _shake(LightDenoiser(4, channels, width=24) if light else whole)
    features = {s: torch.randn(2, c, 64 // s, 96 // s) for s, c in channels.items()}
    context = denoiser.project(features)
    noisy = torch.randn(2, 4, 8, 12)
    early, late = (denoiser(noisy, torch.full((2,), t), context)[0] for t in (0.2, 0.9))
    assert early.shape == noisy.shape
    assert not torch.allclose(early, late, atol=1e-3)
    # The result for an image does not depend on the other image of the batch or on the other time.
    alone = denoiser(noisy[:1], torch.tensor([0.2]), [c[:1] for c in context])[0]
    torch.testing.assert_close(denoiser(noisy, torch.tensor([0.2, 0.9]), context)[0][:1], alone)


def test_the_neck_gives_new_features_at_stride_8_alone() -> None:
    channels = {4: 8, 8: 8, 16: 12, 32: 16}
    neck = _shake(ImageNeck(channels, width=24))
    features = {s: torch.randn(2, c, 64 // s, 96 // s) for s, c in channels.items()}
    seen = neck(features)
    assert {s: x.shape[1] for s, x in seen.items()} == neck.channels == {**channels, 8: 24}
    assert all(seen[s] is features[s] for s in (4, 16, 32))


def test_discriminator_sees_a_patch_of_five_cells_and_the_time() -> None:
    discriminator = _shake(LatentDiscriminator(4, width=8))
    latent = torch.randn(1, 4, 16, 16, requires_grad=True)
    logits = discriminator(latent, torch.tensor([0.5]))
    assert logits.shape == (1, NUM_DOMAINS, 8, 8)
    logits[0, :, 4, 4].sum().backward()
    assert latent.grad is not None
    rows, columns = (latent.grad[0].abs().sum(dim=0) > 0).nonzero().T
    assert (rows.min(), rows.max()) == (6, 10)
    assert (columns.min(), columns.max()) == (6, 10)
    assert not torch.allclose(logits, discriminator(latent, torch.tensor([0.9])))


def test_discriminator_of_class_maps_sees_patches_and_no_time() -> None:
    discriminator = _shake(OutputDiscriminator(5, width=8))
    maps = torch.randn(2, 5, 256, 288, requires_grad=True)
    logits = discriminator(maps, torch.tensor([0.5, 1.0]))
    assert logits.shape == (2, NUM_DOMAINS, 8, 9)
    assert torch.equal(logits, discriminator(maps, torch.tensor([0.9, 0.1])))
    logits[0, 2, 4, 4].backward()
    assert maps.grad is not None
    assert not bool(maps.grad[1].any()), "images are judged one by one"
    rows, columns = (maps.grad[0].abs().sum(dim=0) > 0).nonzero().T
    # Receptive field of five 4×4 kernels at stride 2.
    assert int(rows.max() - rows.min()) + 1 == int(columns.max() - columns.min()) + 1 == 94


def test_discriminator_of_class_maps_is_the_published_one() -> None:
    """Five convolutions that end in one logit, trained by binary cross-entropy: source 0, target 1."""
    ours = OutputDiscriminator(19)
    parts: list[nn.Module] = []
    for before, after in ((19, 64), (64, 128), (128, 256), (256, 512), (512, 1)):
        parts += [nn.Conv2d(before, after, kernel_size=4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    published = nn.Sequential(*parts[:-1])
    for own, layer in zip(ours.parameters(), published.parameters(), strict=True):
        assert own.shape == layer.shape
        layer.data.copy_(own.data)
    maps = torch.randn(3, 19, 64, 64, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    logits = ours(maps, torch.ones(3))
    answer = published(maps)
    truth = torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1, 1).expand_as(answer)
    expected = F.binary_cross_entropy_with_logits(answer, truth)
    loss = domain_loss(logits, (2, 0, 1))
    torch.testing.assert_close(loss, expected)
    ours.zero_grad()
    loss.backward()
    expected.backward()
    for own, layer in zip(ours.parameters(), published.parameters(), strict=True):
        torch.testing.assert_close(own.grad, layer.grad)


def test_the_denoisers_latent_is_read_off_its_features() -> None:
    channels = {4: 8, 8: 8, 16: 12, 32: 16}
    denoiser = _shake(Denoiser(4, channels, width=24))
    context = denoiser.project({s: torch.randn(2, c, 64 // s, 96 // s) for s, c in channels.items()})
    noisy, time = torch.randn(2, 4, 8, 12), torch.tensor([0.2, 0.9])
    clean, features = denoiser(noisy, time, context)
    assert features.shape == (2, 24, 8, 12)
    assert torch.equal(denoiser.out(F.silu(features)), clean)


@pytest.mark.parametrize(("in_channels", "out_channels", "stride"), [(8, 8, 1), (8, 12, 1), (8, 12, 2)])
@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 1)])
def test_residual_block_starts_as_its_shortcut(
    in_channels: int, out_channels: int, stride: int, size: tuple[int, int]
) -> None:
    block = ResidualBlock(in_channels, out_channels, stride=stride, time_channels=6)
    x = torch.randn(2, in_channels, *size)
    pooled = nn.functional.avg_pool2d(x, stride, ceil_mode=True) if stride > 1 else x
    out = block(x, torch.randn(2, 6))
    torch.testing.assert_close(out, block.shortcut(pooled))
    assert out.shape[-2:] == tuple(-(-side // stride) for side in size)


@given(channels=st.integers(1, 700))
def test_groups_divide_the_channels(channels: int) -> None:
    norm = group_norm(channels)
    assert channels % norm.num_groups == 0
    assert norm.num_groups <= max(1, channels // 16)


def test_times_embed_apart() -> None:
    with torch.no_grad():
        embedded = TimeEmbedding(32)(torch.linspace(0, 1, 9))
    distances = torch.cdist(embedded, embedded) + 99 * torch.eye(9)
    assert float(distances.min()) > 1e-3


def test_upsampling_to_the_same_size_copies_nothing() -> None:
    x = torch.randn(1, 2, 3, 4)
    assert upsample_to(x, (3, 4)) is x
    assert upsample_to(x, (6, 9)).shape == (1, 2, 6, 9)
