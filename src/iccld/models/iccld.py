"""The ICCLD model: image coder, label coder and the latent diffusion that connects them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from iccld.compute import to_device
from iccld.diffusion import sample, self_aligned_state
from iccld.documents import Range, build
from iccld.errors import InputError
from iccld.escaping import shortened
from iccld.labels import IGNORE, LabelSpace
from iccld.models import storage
from iccld.models.denoiser import Denoiser, ImageNeck, LightDenoiser
from iccld.models.hub import push_files
from iccld.models.image_coder import build_image_coder, pyramid_channels
from iccld.models.images import Images
from iccld.models.label_coder import LATENT_STRIDE, LabelDecoder, LabelEncoder, LightDecoder
from iccld.models.prediction import Prediction, predict_images

_MULTIPLE = 32  # sides are padded to a multiple of the coarsest stride, and to two of its cells at least:
_SMALLEST = (
    64  # where one cell is left, bf16 convolutions of stride 2 give garbage on CPUs with AMX (torch 2.13)
)


@dataclass(frozen=True)
class ModelSpec:
    """Everything needed to build the network again; stored in ``config.json``."""

    backbone: str = "compact"
    latent_channels: Annotated[int, Range(1, 1024)] = 16
    width: Annotated[int, Range(1, 8192)] = 96
    context_links: bool = True
    detail_links: bool = True
    diffusion: bool = True
    reencoding: bool = True
    light_steps: bool = False
    input_height: Annotated[int, Range(0, 16384)] = 0
    backbone_config: dict[str, Any] | None = None


@dataclass
class ImageState:
    """What the image coder gave for a batch, prepared for denoiser and decoder.

    Attributes:
        context: the context links (denoiser side).
        details: the detail links (decoder side).
        coarse: the image coder's own features at stride 32.
        size: padded height and width in pixels.
        content: height and width of the images themselves.
    """

    context: list[Tensor]
    details: list[Tensor]
    coarse: Tensor
    size: tuple[int, int]
    content: tuple[int, int]

    def take(self, rows: slice | Tensor) -> ImageState:
        """The state of some of the images; rows may repeat."""
        context, details = [c[rows] for c in self.context], [d[rows] for d in self.details]
        return ImageState(context, details, self.coarse[rows], self.size, self.content)

    def repeat(self, times: int) -> ImageState:
        """Each image ``times`` times in a row."""
        context, details = (
            [x.repeat_interleave(times, dim=0) for x in links] for links in (self.context, self.details)
        )
        return ImageState(
            context, details, self.coarse.repeat_interleave(times, dim=0), self.size, self.content
        )

    @property
    def latent_size(self) -> tuple[int, int]:
        """Height and width of the latent grid."""
        return self.size[0] // LATENT_STRIDE, self.size[1] // LATENT_STRIDE


@dataclass
class TrainingOutput:
    """What one training pass gives; n images of which the first m are labeled.

    Attributes:
        logits: of D(z_hat_0), first m images (all n if asked for), at the decoder's stride.
        denoised: z_hat_0 of all n images.
        features: the denoiser's last features, of all n images.
        coarse: the image coder's features at stride 32, of all n images.
        times: diffusion times of all n images, as they were used: 1 without diffusion.
        reconstruction: of D(z_0 + small noise), first r images, all m unless asked for fewer; None without the label
            coder.
        clean: z_0 of the first m images, without gradient; None without the label coder.
    """

    logits: Float[Tensor, "_ k h w"]
    denoised: Float[Tensor, "n d h2 w2"]
    features: Float[Tensor, "n c h2 w2"]
    coarse: Float[Tensor, "n c3 h3 w3"]
    times: Float[Tensor, " n"]
    reconstruction: Float[Tensor, "r k h w"] | None = None
    clean: Float[Tensor, "m d h2 w2"] | None = None


class ICCLD(nn.Module):
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
        input_height: height in pixels that images are scaled to for prediction, the one trained at; 0 takes them as
            they are.
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
        self.label_space = label_space
        self.image_coder = build_image_coder(backbone, pretrained=pretrained, backbone_config=backbone_config)
        stored = getattr(self.image_coder, "backbone_config", None)
        self.spec = ModelSpec(
            backbone,
            latent_channels,
            width,
            context_links,
            detail_links,
            diffusion,
            reencoding,
            light_steps,
            input_height,
            stored,
        )
        channels = pyramid_channels(self.image_coder)
        num_classes = len(label_space)
        self.neck: ImageNeck | None = None
        self.label_decoder: LabelDecoder | LightDecoder
        self.denoiser: Denoiser | LightDenoiser
        self.label_encoder = LabelEncoder(num_classes, latent_channels, width=16 if light_steps else 64)
        if light_steps:
            self.neck = ImageNeck(channels, context_links=context_links, width=width)
            channels = self.neck.channels
        decoder = LightDecoder if light_steps else LabelDecoder
        self.label_decoder = decoder(
            num_classes, latent_channels, channels, detail_links=detail_links, width=width
        )
        if light_steps:
            self.denoiser = LightDenoiser(latent_channels, channels, width=width)
        else:
            self.denoiser = Denoiser(latent_channels, channels, context_links=context_links, width=width)
        # The layout of weights decides the order of sums, and so the last digits of answers: it is the same in training
        # and for models that are built, stored and loaded.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    # -- the parts -----------------------------------------------------------------------------------

    def encode_images(self, images: Float[Tensor, "b 3 h w"]) -> ImageState:
        """Runs the image coder once and prepares both families of inter-coder links.

        Args:
            images: RGB in [0, 1], any size; padded at the right and bottom by repeating the edge.
        """
        height, width = images.shape[-2:]
        pad_h, pad_w = _padding(height), _padding(width)
        if pad_h or pad_w:
            images = F.pad(images, (0, pad_w, 0, pad_h), mode="replicate")
        return self.encode_padded(images, (height, width))

    def encode_padded(self, images: Float[Tensor, "b 3 h w"], content: tuple[int, int]) -> ImageState:
        """The same for images whose sides are multiples of 32, 64 at least.

        Args:
            images: RGB in [0, 1].
            content: height and width without the padding.
        """
        features = self.image_coder(images)
        if self.neck is not None:
            features = self.neck(features)
        context, details = self.denoiser.project(features), self.label_decoder.project(features)
        size = (images.shape[-2], images.shape[-1])
        return ImageState(context, details, features[32], size, content)

    def encode_labels(self, labels: Int[Tensor, "b h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Label maps → latents z_0; labels are padded with ignore like the images."""
        height, width = labels.shape[-2:]
        padded = F.pad(labels, (0, _padding(width), 0, _padding(height)), value=IGNORE)
        latent: Tensor = self.label_encoder(padded)
        return latent

    def draw_noise(self, state: ImageState, num: int) -> Float[Tensor, "b d h w"]:
        """Standard normal noise on the latent grid from torch's global generator of the CPU.

        The CPU's generator is used whatever the device, so that a seed means the same everywhere.
        """
        noise = torch.randn(num, self.spec.latent_channels, *state.latent_size)
        return to_device(noise, next(self.parameters()).device)

    def sample(
        self, state: ImageState, noise: Float[Tensor, "b d h w"], num_steps: int = 1
    ) -> Float[Tensor, "b d h w"]:
        """Samples the label latent of encoded images from pure noise in ``num_steps`` steps."""
        return self._sample(state, noise, num_steps, [])

    def segment(
        self, state: ImageState, noise: Float[Tensor, "b d h w"], num_steps: int = 1
    ) -> Float[Tensor, "b k h2 w2"]:
        """Samples and decodes: class probabilities at the decoder's stride.

        With re-encoding every step's answer is decoded anyway, and they are averaged, the k-th with weight k: later
        steps are better, and surer of themselves than they should be. Without, the last step alone counts.
        """
        passed: list[Tensor] = []
        latent = self._sample(state, noise, num_steps, passed)
        answers = [self._crop(logits, state).softmax(dim=1) for logits in passed]
        answers.append(self.decode(latent, state).softmax(dim=1))
        total = sum((k * answer for k, answer in enumerate(answers, 1)), torch.zeros_like(answers[0]))
        return total / (len(answers) * (len(answers) + 1) / 2)

    def _sample(self, state: ImageState, noise: Tensor, num_steps: int, passed: list[Tensor]) -> Tensor:
        """Samples; ``passed`` takes the logits of the answers that were re-encoded on the way."""
        if not self.spec.diffusion:
            noise, num_steps = 0 * noise, 1  # a constant would suffer what ExportGraph._noise_of prevents

        def reencode(clean: Tensor) -> Tensor:
            passed.append(self.label_decoder(clean, state.details, state.size))
            return self._encode_answer(passed[-1], state)

        return sample(
            lambda z, t: self.denoiser(z, t, state.context),
            noise,
            num_steps,
            reencode if self.spec.reencoding else None,
        )

    def reencode(self, state: ImageState, latent: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
        """Equation 6b: decodes a latent with the detail links and encodes the labels that it stands for."""
        return self._encode_answer(self.label_decoder(latent, state.details, state.size), state)

    def _encode_answer(self, logits: Tensor, state: ImageState) -> Tensor:
        labels = logits.max(dim=1).indices  # argmax takes four times as long on CPUs
        height, width = self._answer_size(state)
        rows, columns = (torch.arange(side, device=labels.device) for side in labels.shape[-2:])
        inside = (rows[:, None] < height) & (columns < width)
        labels = labels.where(inside, IGNORE)  # padding, as in the labels trained with
        encoded: Tensor = self.label_encoder(labels, self.label_decoder.out_stride)
        return encoded

    def decode(self, latent: Float[Tensor, "b d h w"], state: ImageState) -> Float[Tensor, "b k h2 w2"]:
        """Latent → logits at the decoder's stride, cropped to the images (their size divided by it, rounded up)."""
        return self._crop(self.label_decoder(latent, state.details, state.size), state)

    def _crop(self, logits: Tensor, state: ImageState) -> Tensor:
        height, width = self._answer_size(state)
        return logits[..., :height, :width].float()

    def _answer_size(self, state: ImageState) -> tuple[int, int]:
        """Height and width of the images at the decoder's stride, rounded up."""
        stride = self.label_decoder.out_stride
        # Not -(-a // b): exported graphs round quotients of negative sizes towards zero.
        return (state.content[0] + stride - 1) // stride, (state.content[1] + stride - 1) // stride

    # -- training ------------------------------------------------------------------------------------

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
        """One training pass over all branches at once (equations 2 to 7).

        Args:
            images: RGB in [0, 1]; the labeled images come first.
            labels: of the first m images, 255 = ignore.
            time: diffusion time of each image, in [0, 1]; on the CPU, as ``aligned``: they steer the pass.
            aligned: samples whose noisy state starts from the model's own prediction; images without
                labels are always aligned.
            label_coder: encode and reconstruct the labels; only a model without diffusion can do without.
            decode_all: give logits of all images, not of the labeled ones alone.
            num_reconstructed: labels of how many images, from the first on, are reconstructed; None for all m.
            reconstruction_noise: scale of the noise that z_0 bears when it is reconstructed.
        """
        assert label_coder or not self.spec.diffusion, "diffusion noises what the label encoder gives"
        num_labeled = len(labels)
        num_decoded = len(images) if decode_all else num_labeled
        state = self.encode_images(images)
        noise = self.draw_noise(state, len(images))
        clean = self.encode_labels(labels) if label_coder else None
        if self.spec.diffusion:
            assert clean is not None
            aligned = aligned.clone()
            aligned[num_labeled:] = True
            padded = torch.cat([clean.detach(), torch.zeros_like(noise[num_labeled:])])
            noisy = self_aligned_state(partial(self._answer, state), padded, noise, time, aligned)
        else:
            noisy, time = torch.zeros_like(noise), torch.ones_like(time)
        time = to_device(time, images.device)
        features = self.denoiser.features(noisy, time, state.context)
        denoised = self.denoiser.head(features)
        if clean is None:
            logits = self.decode(denoised[:num_decoded], state.take(slice(num_decoded)))
            return TrainingOutput(logits, denoised, features, state.coarse, time)
        known = clean[:num_reconstructed]
        disturbed = known + reconstruction_noise * to_device(torch.randn(known.shape), clean.device)
        rows = torch.cat([torch.arange(num, device=images.device) for num in (num_decoded, len(known))])
        logits = self.decode(torch.cat([denoised[:num_decoded], disturbed]), state.take(rows))
        return TrainingOutput(
            logits[:num_decoded], denoised, features, state.coarse, time, logits[num_decoded:], clean.detach()
        )

    def _answer(self, state: ImageState, noise: Tensor, rows: Tensor) -> Tensor:
        """What the sampler builds its second state from, for some of the images."""
        some = state.take(rows)
        clean = self.denoiser(noise, noise.new_ones(len(noise)), some.context)
        return self.reencode(some, clean) if self.spec.reencoding else clean

    # -- prediction and storage ----------------------------------------------------------------------

    def predict(
        self,
        images: Images,
        *,
        steps: int | None = None,
        draws: int | None = None,
        seed: int = 0,
        window: tuple[int, int] | None = None,
        overlap: float = 0.25,
        precision: str = "auto",
        input_height: int | None = None,
    ) -> Prediction:
        """Segments images of any size.

        Args:
            images: RGB, uint8 or float in [0, 1], ``(h, w, 3)`` or ``(b, h, w, 3)``; or a Pillow image, which is
                turned upright, or several of one size.
            steps: K, sampling steps; 1 if None.
            draws: N, noise draws whose probabilities are averaged; 1 if None.
            seed: of the noise; the same seed gives the same answer.
            window: height and width of a sliding window in pixels of the scaled image; None takes it whole.
            overlap: share of the window that neighbours have in common, in [0, 1).
            precision: bf16, fp32, or auto: bf16 where the device is fast at it.
            input_height: height that images are scaled to before; None for the model's own, 0 for none.

        Returns:
            Labels, probabilities and uncertainty at the size of the images; with a batch axis if they had one.

        Raises:
            InputError: an array of another shape, type or range, or a setting out of range.
        """
        return predict_images(
            self,
            images,
            steps=1 if steps is None else steps,
            draws=1 if draws is None else draws,
            seed=seed,
            window=window,
            overlap=overlap,
            precision=precision,
            input_height=input_height,
        )

    def save_pretrained(self, folder: str | Path, *, extra: Mapping[str, Any] | None = None) -> None:
        """Writes ``model.safetensors`` and ``config.json`` (classes and palette inside), each atomically.

        Args:
            folder: made if missing.
            extra: further facts for ``config.json``, such as how the model was trained.
        """
        spec = {key: value for key, value in asdict(self.spec).items() if value is not None}
        config = {"label_space": self.label_space.to_dict(), "model": spec, **(extra or {})}
        storage.save_model(folder, self.state_dict(), config)

    @classmethod
    def from_pretrained(cls, source: str | Path) -> ICCLD:
        """Loads a model from a folder that ``save_pretrained`` wrote, or from a hub id.

        Args:
            source: a folder, ``user/model``, or ``user/model@revision`` (a branch, tag or commit).

        Raises:
            InputError: no such folder or id, a truncated file, or weights that do not fit the configuration.
        """
        folder = storage.find_model(source)
        config = storage.read_config(folder)
        try:
            space = LabelSpace.from_dict(config.get("label_space"))
            stored = config.get("model")
            # Models stored before re-encoding existed do not know it.
            spec = build(
                ModelSpec, {"reencoding": False, **stored} if isinstance(stored, dict) else stored, "model"
            )
        except InputError as error:
            raise storage.not_a_model(folder, error) from error
        if spec.backbone.startswith("auto:") and spec.backbone_config is None:
            raise InputError(
                f"{folder / storage.CONFIG}: has no configuration of its backbone {shortened(spec.backbone)}, which is "
                "not fetched; save the model again where that backbone is known"
            )
        model = storage.load_network(lambda: cls(space, **vars(spec)), folder, num_classes=len(space))
        return model.eval()

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Uploads the model to a Hugging Face repository and returns its address.

        ``iccld push`` does the same for a run's folder, and writes a model card.

        Raises:
            InputError: nothing was uploaded; says why.
        """

        def write(folder: Path) -> list[str]:
            self.save_pretrained(folder)
            return [storage.WEIGHTS, storage.CONFIG]

        return push_files(write, repo_id, private=private, token=token)[0]


def _padding(side: int) -> int:
    """How many pixels a side lacks."""
    return max(_SMALLEST - side, -side % _MULTIPLE)
