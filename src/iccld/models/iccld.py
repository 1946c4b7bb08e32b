"""The ICCLD model: image coder, label coder and latent diffusion between them (docs/method.md, equations 1 to 7).

Noise follows the cosine schedule (Nichol & Dhariwal 2021) in continuous time t from 0 to 1, with alpha = cos(pi t / 2)
and sigma = sin(pi t / 2). At t = 1, alpha is zero (Lin et al. 2024). Sampling therefore starts from pure noise and can
use a single step.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from iccld.labels import IGNORE, LabelSpace
from iccld.models.image_coder import build_image_coder
from iccld.models.light import build_heads
from iccld.models.networks import LATENT_STRIDE, ImageFeatures, LabelEncoder, Latents, Logits, TrainingOutput
from iccld.models.predicting import Predicting
from iccld.models.prediction import Predictor
from iccld.models.storage import ModelSpec, Pretrained

# Image sides are padded to a multiple of the coarsest stride and to at least two cells of this stride. With a single
# cell, bf16 convolutions of stride 2 return wrong values on CPUs with AMX (torch 2.13).
_MULTIPLE, _SMALLEST = 32, 64


def signal_and_noise(time: Float[Tensor, " b"]) -> tuple[Float[Tensor, "b 1 1 1"], Float[Tensor, "b 1 1 1"]]:
    """Returns (alpha_t, sigma_t), the scales of signal and noise at times in [0, 1], with alpha² + sigma² = 1."""
    angle = time * (math.pi / 2)
    alpha = torch.where(time >= 1, torch.zeros_like(angle), torch.cos(angle))
    return alpha.view(-1, 1, 1, 1), torch.sin(angle).view(-1, 1, 1, 1)


def add_noise(clean: Latents, noise: Latents, time: Float[Tensor, " b"]) -> Latents:
    """Returns the noisy latents z_t = alpha_t z_0 + sigma_t epsilon (equation 3)."""
    alpha, sigma = signal_and_noise(time)
    return alpha * clean + sigma * noise


class ICCLD(Predictor, Predicting, Pretrained):
    """Segmentation model that denoises label latents, conditioned on image features, and decodes the latents to logits.

    Args:
        label_space: Classes and colors of the model outputs.
        backbone: Name from ``iccld.models.image_coder.BACKBONE_NAMES``, or ``auto:<hub id or folder>``.
        pretrained: ``True`` loads the backbone's published weights. A string is the hub id or folder of MiT weights.
        latent_channels: Number d of channels of the label latent.
        width: Number of channels of denoiser and decoder at stride 8. With ``light_steps``, both have a third of this
            number, but at least 16.
        context_links: Whether image features at strides 8, 16 and 32 enter the denoiser.
        detail_links: Whether image features at strides 2 and 4 enter the label decoder.
        diffusion: Whether latents are sampled from noise. ``False`` gives a deterministic head for ablations: a single
            step at t = 1 with zeros instead of noise.
        reencoding: Whether predicted latents are decoded and encoded again before the next sampling step (equation 6b).
        light_steps: Whether denoiser and decoder do most of their work once per image instead of at every sampling
            step.
        input_height: Height in pixels to which images are scaled for prediction. 0 keeps the size of the images.
        backbone_config: Stored ``transformers`` configuration of an ``auto:`` or MiT backbone.
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
        # The memory layout of the weights determines the order of floating-point sums, and thus the last digits of
        # outputs. All models therefore use one layout, in training and after they are built, stored or loaded.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> ImageFeatures:
        """Runs the image coder once (equation 2) and projects its features for the context and detail links.

        The images are RGB in [0, 1]. They are padded at the right and bottom with copies of the edge pixels.
        """
        height, width = images.shape[-2:]
        if any(pads := _padding(height, width)):
            images = F.pad(images, pads, mode="replicate")
        return self.encode_padded(images, (height, width))

    def encode_padded(self, images: Float[Tensor, "b 3 h w"], content: tuple[int, int]) -> ImageFeatures:
        """Encodes padded images with sides that are multiples of 32 and at least 64.

        ``content`` is the height and width of the images before padding.
        """
        features = self.neck(self.image_coder(images))
        context, details = self.denoiser.project(features), self.label_decoder.project(features)
        size = (images.shape[-2], images.shape[-1])
        return ImageFeatures(context, details, features[32], size, content)

    def encode_labels(self, labels: Int[Tensor, "b h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Pads label maps with the ignore label to the size of padded images, and encodes them to z_0 (equation 1)."""
        return self.label_encoder(F.pad(labels, _padding(*labels.shape[-2:]), value=IGNORE))

    def draw_noise(self, features: ImageFeatures, num: int) -> Latents:
        """Draws standard normal noise on the latent grid. The CPU generator gives the same noise for all devices."""
        height, width = (side // LATENT_STRIDE for side in features.size)
        noise = torch.randn(num, self.spec.latent_channels, height, width)
        return to_device(noise, features.coarse.device)

    def denoise(self, noisy: Latents, time: Float[Tensor, " b"], features: ImageFeatures) -> Latents:
        """Predicts the clean latent from a noisy latent (equation 4)."""
        return self.denoiser(noisy, time, features.context)[0]

    def decode(self, latent: Latents, features: ImageFeatures) -> Logits:
        """Decodes latents to class logits at the decoder's stride, cropped to the unpadded image (equation 7)."""
        logits = self.label_decoder(latent, features.details, features.size)
        height, width = self._decoded_size(features)
        return logits[..., :height, :width].float()

    def reencode(self, latent: Latents, features: ImageFeatures) -> tuple[Latents, Logits]:
        """Decodes latents and encodes the resulting labels (equation 6b). Returns the new latents, and the logits."""
        logits = self.label_decoder(latent, features.details, features.size)
        labels = logits.max(dim=1).indices  # argmax would take four times as long on CPUs
        height, width = self._decoded_size(features)
        rows, columns = (torch.arange(side, device=labels.device) for side in labels.shape[-2:])
        inside = (rows[:, None] < height) & (columns < width)
        labels = labels.where(inside, IGNORE)  # labels of the padding are ignored, as in training
        encoded = self.label_encoder(labels, self.label_decoder.out_stride)
        return encoded, logits[..., :height, :width].float()

    def sample(
        self, features: ImageFeatures, noise: Latents, num_steps: int = 1
    ) -> tuple[Latents, list[Logits]]:
        """Samples latents from pure noise with deterministic DDIM (equation 6; Song et al. 2021, eta = 0).

        ``noise`` is the standard normal state at t = 1. The ``num_steps`` = K ≥ 1 steps are at the times 1, (K−1)/K, …,
        1/K ("trailing" spacing). Returns the z_0 predicted in the last step, and the logits of all previous steps. The
        list of logits is empty without re-encoding.
        """
        if num_steps < 1:
            raise ValueError(f"num_steps is {num_steps}; sampling needs at least 1 step")
        if not self.spec.diffusion:
            noise, num_steps = 0 * noise, 1  # zeros that depend on the input, see ExportGraph._noise_of
        state, clean, logits = noise, noise, []
        for step in range(num_steps):
            time = noise.new_full((noise.shape[0],), 1 - step / num_steps)
            clean = self.denoise(state, time, features)
            if step + 1 == num_steps:
                break
            if self.spec.reencoding:
                # The next state uses the initial noise. Noise computed from the current state would also contain the
                # changes that previous re-encodings made to the latent.
                origin, answer = self.reencode(clean, features)
                logits.append(answer)
                state = add_noise(origin, noise, time - 1 / num_steps)
            else:
                alpha, sigma = signal_and_noise(time)
                state = add_noise(clean, (state - alpha * clean) / sigma, time - 1 / num_steps)
        return clean, logits

    def segment(self, features: ImageFeatures, noise: Latents, num_steps: int = 1) -> Logits:
        """Samples latents and decodes them to class probabilities at the decoder's stride.

        With re-encoding, every step gives probabilities. The result is the weighted mean of the probabilities. Step i
        has weight i, because later steps are better but overconfident. Without re-encoding, only the last step is used.
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
        """Runs one training pass over all branches (equations 1 to 5 and 7).

        Args:
            images: RGB images in [0, 1]. The labeled images come first.
            labels: Label maps of the first m images, 255 = ignore.
            time: Diffusion time of each image in [0, 1], on the CPU because control flow depends on the times.
            aligned: Mask of the images whose noisy state is computed from the model's own prediction. The mask is on
                the CPU too. Unlabeled images always use this prediction.
            label_coder: Whether labels are encoded and reconstructed. Must be ``True`` for a model with diffusion.
            decode_all: Whether logits are computed for all images instead of the labeled images only.
            num_reconstructed: Number r. The first r label maps are reconstructed. ``None`` means all m.
            reconstruction_noise: Scale of the noise added to z_0 before reconstruction.
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
        """Returns the noisy states z_t of a training pass (equations 3 and 5).

        Noise is added to the true latent, or to the model's own one-step prediction if ``aligned`` is set or the image
        has no label. The model thus learns to correct the errors that it makes during sampling (after Ji et al. 2023,
        DDP). At t = 1, z_t is pure noise, so no prediction is computed.
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
        """Returns the height and width of the images before padding, at the decoder's stride and rounded up."""
        stride = self.label_decoder.out_stride
        # -(-a // b) would be wrong, because exported graphs round negative quotients towards zero.
        height, width = ((side + stride - 1) // stride for side in features.content)
        return height, width


def _padding(height: int, width: int) -> tuple[int, int, int, int]:
    """Returns the numbers of pixels to add at the left, right, top and bottom, in the order of ``F.pad``."""
    below, right = (max(_SMALLEST - side, -side % _MULTIPLE) for side in (height, width))
    return 0, right, 0, below


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copies a tensor from the CPU to a device. On CUDA, the copy causes no GPU sync.

    On other devices, the call waits for the copy to end, because a non-blocking copy to MPS could read freed memory.
    """
    return tensor.to(device, non_blocking=device.type == "cuda")
