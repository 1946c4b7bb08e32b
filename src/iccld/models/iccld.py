"""The ICCLD model: image coder, label coder and the latent diffusion between them (docs/method.md, equations 1 to 7).

Noise follows the cosine schedule without offset (Nichol & Dhariwal 2021) in continuous time: alpha = cos(pi t / 2),
sigma = sin(pi t / 2), t in [0, 1]. At t = 1 alpha is zero: a zero terminal signal-to-noise ratio (Lin et al. 2024), so
sampling may start from pure noise and a single step is already an answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from iccld.labels import IGNORE, LabelSpace
from iccld.models.image_coder import build_image_coder
from iccld.models.light import build_heads
from iccld.models.networks import LATENT_STRIDE, ImageFeatures, LabelEncoder, TrainingOutput
from iccld.models.prediction import Predictor
from iccld.models.storage import ModelSpec, Pretrained

# Sides are padded to a multiple of the coarsest stride, and to two of its cells at least: where one cell is left, bf16
# convolutions of stride 2 give garbage on CPUs with AMX (torch 2.13).
_MULTIPLE, _SMALLEST = 32, 64


def signal_and_noise(time: Float[Tensor, " b"]) -> tuple[Float[Tensor, "b 1 1 1"], Float[Tensor, "b 1 1 1"]]:
    """(alpha_t, sigma_t), the scales of signal and noise at each time in [0, 1]; alpha² + sigma² = 1."""
    angle = time * (math.pi / 2)
    alpha = torch.where(time >= 1, torch.zeros_like(angle), torch.cos(angle))
    return alpha.view(-1, 1, 1, 1), torch.sin(angle).view(-1, 1, 1, 1)


def add_noise(
    clean: Float[Tensor, "b d h w"], noise: Float[Tensor, "b d h w"], time: Float[Tensor, " b"]
) -> Float[Tensor, "b d h w"]:
    """Equation 3: z_t = alpha_t z_0 + sigma_t epsilon."""
    alpha, sigma = signal_and_noise(time)
    return alpha * clean + sigma * noise


@dataclass(frozen=True)
class TimeSampling:
    """How training times are drawn. Half the model's work is the one-step answer at t = 1, so it is trained for it.

    Attributes:
        share_at_one: share of samples at t = 1; other times are uniform in [0, 1).
        self_aligned: share of labeled samples whose noisy state starts from the model's own prediction (equation 5).
    """

    share_at_one: float = 0.6
    self_aligned: float = 0.7

    def __call__(self, num: int) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
        """Times and the choice of self-aligned samples, on the CPU: they steer the pass."""
        times, at_one = torch.rand(num), torch.rand(num) < self.share_at_one
        return torch.where(at_one, torch.ones_like(times), times), torch.rand(num) < self.self_aligned


class ICCLD(Predictor, Pretrained):
    """Segmentation by latent diffusion between an image coder and a label coder.

    Args:
        label_space: the classes and colors that the outputs mean.
        backbone: see ``iccld.models.image_coder.BACKBONE_NAMES``; ``auto:<hub id or folder>`` for others.
        pretrained: start the image coder from published weights (True) or a hub id or folder (MiT only).
        latent_channels: d, channels of the label latent.
        width: channels of denoiser and decoder at stride 8.
        context_links: image features at strides 8, 16, 32 join the denoiser.
        detail_links: image features at strides 2, 4 join the label decoder.
        diffusion: False makes the head deterministic: no noise, one step, t = 1 (for ablation).
        reencoding: predicted latents go through label decoder and label encoder before the next sampling step.
        light_steps: what denoiser and decoder make of the image is done once an image, and steps are narrow.
        input_height: height in pixels that images are scaled to for prediction; 0 takes them as they are.
        backbone_config: a stored transformers configuration (``auto:`` and MiT backbones).

    Raises:
        InputError: unknown backbone, or weights that cannot be read.
    """

    def __init__(
        self,
        label_space: LabelSpace,
        *,
        backbone: str = "compact",
        pretrained: bool | str = False,
        latent_channels: int = 16,
        width: int = 96,
        context_links: bool = True,
        detail_links: bool = True,
        diffusion: bool = True,
        reencoding: bool = True,
        light_steps: bool = False,
        input_height: int = 0,
        backbone_config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.label_space, self.num_classes = label_space, len(label_space)
        self.image_coder = build_image_coder(backbone, pretrained=pretrained, backbone_config=backbone_config)
        stored = self.image_coder.backbone_config
        switches = (context_links, detail_links, diffusion, reencoding, light_steps)
        self.spec = ModelSpec(backbone, latent_channels, width, *switches, input_height, stored)
        self.label_encoder = LabelEncoder(self.num_classes, latent_channels, width=16 if light_steps else 64)
        heads = build_heads(self.spec, self.num_classes, self.image_coder.channels)
        self.neck, self.label_decoder, self.denoiser = heads
        # The layout of weights decides the order of sums, and so the last digits of answers: it is the same in training
        # and for models that are built, stored and loaded.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> ImageFeatures:
        """Equation 2: runs the image coder once and projects both families of inter-coder links.

        Args:
            images: RGB in [0, 1], any size; padded at the right and bottom by repeating the edge.
        """
        height, width = images.shape[-2:]
        pad_h, pad_w = _padding(height), _padding(width)
        if pad_h or pad_w:
            images = F.pad(images, (0, pad_w, 0, pad_h), mode="replicate")
        return self.encode_padded(images, (height, width))

    def encode_padded(self, images: Float[Tensor, "b 3 h w"], content: tuple[int, int]) -> ImageFeatures:
        """The same for images padded to multiples of 32, 64 at least; ``content`` is their size before."""
        features = self.neck(self.image_coder(images))
        context, details = self.denoiser.project(features), self.label_decoder.project(features)
        size = (images.shape[-2], images.shape[-1])
        return ImageFeatures(context, details, features[32], size, content)

    def encode_labels(self, labels: Int[Tensor, "b h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Equation 1: label maps → latents z_0; labels are padded with ignore like the images."""
        height, width = labels.shape[-2:]
        padded = F.pad(labels, (0, _padding(width), 0, _padding(height)), value=IGNORE)
        latent: Tensor = self.label_encoder(padded)
        return latent

    def draw_noise(self, features: ImageFeatures, num: int) -> Float[Tensor, "b d h w"]:
        """Standard normal noise on the latent grid, from the CPU's generator: a seed means the same on every device."""
        height, width = (side // LATENT_STRIDE for side in features.size)
        noise = torch.randn(num, self.spec.latent_channels, height, width)
        return to_device(noise, features.coarse.device)

    def denoise(
        self, noisy: Float[Tensor, "b d h w"], time: Float[Tensor, " b"], features: ImageFeatures
    ) -> Float[Tensor, "b d h w"]:
        """Equation 4: predicts the clean latent from a noisy one."""
        clean: Tensor = self.denoiser(noisy, time, features.context)[0]
        return clean

    def decode(self, latent: Float[Tensor, "b d h w"], features: ImageFeatures) -> Float[Tensor, "b k h2 w2"]:
        """Equation 7: latent → logits at the decoder's stride, cropped to the images (size over stride, rounded up)."""
        logits = self.label_decoder(latent, features.details, features.size)
        height, width = self._decoded_size(features)
        return logits[..., :height, :width].float()

    def reencode(
        self, latent: Float[Tensor, "b d h w"], features: ImageFeatures
    ) -> tuple[Float[Tensor, "b d h w"], Float[Tensor, "b k h2 w2"]]:
        """Equation 6b: decodes a latent with the detail links and encodes the labels; gives the logits as well."""
        logits = self.label_decoder(latent, features.details, features.size)
        labels = logits.max(dim=1).indices  # argmax takes four times as long on CPUs
        height, width = self._decoded_size(features)
        rows, columns = (torch.arange(side, device=labels.device) for side in labels.shape[-2:])
        inside = (rows[:, None] < height) & (columns < width)
        labels = labels.where(inside, IGNORE)  # padding, as in the labels trained with
        encoded: Tensor = self.label_encoder(labels, self.label_decoder.out_stride)
        return encoded, logits[..., :height, :width].float()

    def sample(
        self, features: ImageFeatures, noise: Float[Tensor, "b d h w"], num_steps: int = 1
    ) -> tuple[Float[Tensor, "b d h w"], list[Float[Tensor, "b k h2 w2"]]]:
        """Equation 6: deterministic sampling (DDIM, Song et al. 2021, eta = 0) from pure noise in evenly spaced times.

        Args:
            features: of the images.
            noise: the state at t = 1, standard normal.
            num_steps: K ≥ 1; times are 1, (K−1)/K, …, 1/K, so every step is used ("trailing" spacing).

        Returns:
            The last predicted z_0, and the logits of the predictions before it that were re-encoded.
        """
        if num_steps < 1:
            raise ValueError(f"num_steps is {num_steps}; sampling needs at least 1 step")
        if not self.spec.diffusion:
            noise, num_steps = 0 * noise, 1  # a constant would suffer what ExportGraph._noise_of prevents
        state, clean, logits = noise, noise, []
        for step in range(num_steps):
            time = noise.new_full((noise.shape[0],), 1 - step / num_steps)
            clean = self.denoise(state, time, features)
            if step + 1 == num_steps:
                break
            if self.spec.reencoding:
                # With the noise of the start: implied noise would hold what re-encoding changed in earlier steps.
                origin, answer = self.reencode(clean, features)
                logits.append(answer)
                state = add_noise(origin, noise, time - 1 / num_steps)
            else:
                alpha, sigma = signal_and_noise(time)
                state = add_noise(clean, (state - alpha * clean) / sigma, time - 1 / num_steps)
        return clean, logits

    def segment(
        self, features: ImageFeatures, noise: Float[Tensor, "b d h w"], num_steps: int = 1
    ) -> Float[Tensor, "b k h2 w2"]:
        """Samples and decodes: class probabilities at the decoder's stride.

        With re-encoding every step is decoded anyway, and the answers are averaged, the k-th with weight k: later steps
        are better, and surer of themselves than they should be. Without, the last step alone counts.
        """
        latent, logits = self.sample(features, noise, num_steps)
        answers = [x.softmax(dim=1) for x in (*logits, self.decode(latent, features))]
        total = sum((k * answer for k, answer in enumerate(answers, 1)), torch.zeros_like(answers[0]))
        return total / (len(answers) * (len(answers) + 1) / 2)

    def forward(
        self,
        images: Float[Tensor, "n 3 h w"],
        labels: Int[Tensor, "m h w"],
        time: Float[Tensor, " n"],
        aligned: Bool[Tensor, " n"],
        *,
        label_coder: bool = True,
        decode_all: bool = False,
        num_reconstructed: int | None = None,
        reconstruction_noise: float = 0.1,
    ) -> TrainingOutput:
        """One training pass over all branches at once (equations 1 to 5 and 7).

        Args:
            images: RGB in [0, 1]; the labeled images come first.
            labels: of the first m images, 255 = ignore.
            time: diffusion time of each image, in [0, 1]; on the CPU, as ``aligned``: they steer the pass.
            aligned: samples whose noisy state starts from the model's own prediction; unlabeled ones always do.
            label_coder: encode and reconstruct the labels; only a model without diffusion can do without.
            decode_all: give logits of all images, not of the labeled ones alone.
            num_reconstructed: how many label maps, from the first on, are reconstructed; None for all m.
            reconstruction_noise: scale of the noise that z_0 bears when it is reconstructed.
        """
        assert label_coder or not self.spec.diffusion, "diffusion noises what the label encoder gives"
        num_decoded = len(images) if decode_all else len(labels)
        features = self.encode(images)
        noise = self.draw_noise(features, len(images))
        clean = self.encode_labels(labels) if label_coder else None
        if self.spec.diffusion and clean is not None:
            noisy = self._noisy_state(features, clean.detach(), noise, time, aligned)
        else:
            noisy, time = torch.zeros_like(noise), torch.ones_like(time)
        time = to_device(time, images.device)
        denoised, last = self.denoiser(noisy, time, features.context)
        if clean is None:
            logits = self.decode(denoised[:num_decoded], features.take(slice(num_decoded)))
            return TrainingOutput(logits, denoised, last, features.coarse, time)
        known = clean[:num_reconstructed]
        disturbed = known + reconstruction_noise * to_device(torch.randn(known.shape), clean.device)
        rows = torch.cat([torch.arange(num, device=images.device) for num in (num_decoded, len(known))])
        logits = self.decode(torch.cat([denoised[:num_decoded], disturbed]), features.take(rows))
        answers, reconstruction = logits[:num_decoded], logits[num_decoded:]
        return TrainingOutput(answers, denoised, last, features.coarse, time, reconstruction, clean.detach())

    def _noisy_state(
        self, features: ImageFeatures, clean: Tensor, noise: Tensor, time: Tensor, aligned: Tensor
    ) -> Float[Tensor, "n d h w"]:
        """Equations 3 and 5: z_t, from the model's own prediction where ``aligned`` is set or labels are missing.

        Plain training noises the true latent, while a sampler noises its own mistakes. An aligned state starts from the
        one-step prediction, as the sampler does (after Ji et al. 2023, DDP). At t = 1 nothing of it would be left.
        """
        aligned = aligned | (torch.arange(len(aligned)) >= len(clean))
        origin = torch.cat([clean, torch.zeros_like(noise[len(clean) :])])
        rows = (aligned & (time < 1)).nonzero()[:, 0]
        idle, rows, time = (to_device(x, noise.device) for x in (aligned & (time >= 1), rows, time))
        origin = torch.where(idle.view(-1, 1, 1, 1), torch.zeros_like(origin), origin)
        if len(rows):
            some = features.take(rows)
            with torch.no_grad():
                own = self.denoise(noise[rows], noise.new_ones(len(rows)), some)
                own = self.reencode(own, some)[0] if self.spec.reencoding else own
            origin = origin.index_copy(0, rows, own.to(origin.dtype))
        return add_noise(origin, noise, time)

    def _decoded_size(self, features: ImageFeatures) -> tuple[int, int]:
        """Height and width of the images at the decoder's stride, rounded up."""
        stride = self.label_decoder.out_stride
        # Not -(-a // b): exported graphs round quotients of negative sizes towards zero.
        height, width = ((side + stride - 1) // stride for side in features.content)
        return height, width


def _padding(side: int) -> int:
    """How many pixels a side lacks."""
    return max(_SMALLEST - side, -side % _MULTIPLE)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copies from the CPU without a GPU sync. Elsewhere the copy waits: MPS would read freed memory."""
    return tensor.to(device, non_blocking=device.type == "cuda")
