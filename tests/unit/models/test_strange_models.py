"""Tests of untrusted models and backbones: no code is run, no file is downloaded, no oversized network is built."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from iccld.errors import InputError
from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD
from iccld.models.image_coder import build_image_coder

Folders = dict[str, Path]
IMAGE = np.random.default_rng(0).integers(0, 256, (33, 40, 3), dtype=np.uint8)
CODE = {
    "AutoConfig": "modeling_evil.EvilConfig",
    "AutoModel": "modeling_evil.Evil",
    "AutoBackbone": "modeling_evil.Evil",
}


@pytest.fixture(autouse=True)
def connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Removes offline mode and blocks the network. Records connection attempts and prompts, and expects none."""
    asked: list[object] = []

    def refuse(*words: object, **more: object) -> None:
        asked.append(words)
        raise OSError("no network in this test")

    def no_answer(prompt: str = "") -> str:
        asked.append(prompt)
        return "y"

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("builtins.input", no_answer)
    yield asked
    assert asked == []


@pytest.fixture(scope="module")
def stored(backbone_folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model with a backbone of ``transformers``."""
    folder = tmp_path_factory.mktemp("stored")
    ICCLD(CAMVID11, backbone=f"auto:{backbone_folders['convnextv2']}", width=16).save_pretrained(folder)
    return folder


@pytest.fixture
def strange(stored: Path, tmp_path: Path) -> Path:
    """A copy of the model's folder, which tests may change."""
    return Path(shutil.copytree(stored, tmp_path / "strange"))


@pytest.fixture
def evil(backbone_folders: Folders, tmp_path: Path) -> Path:
    """The folder of a backbone with Python code that writes a file when the code is run."""
    folder = Path(shutil.copytree(backbone_folders["convnextv2"], tmp_path / "evil"))
    (folder / "modeling_evil.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').write('x')\nclass Evil: ...\n"
    )
    return folder


def _edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _edit_model(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    _edit(folder, model=config["model"] | changes)


def _refusal(source: Path) -> str:
    start = time.monotonic()
    with pytest.raises(InputError) as caught:
        ICCLD.from_pretrained(source)
    assert time.monotonic() - start < 20
    message = str(caught.value)
    assert message.isprintable()
    assert str(source) in message
    return message


def test_a_stored_model_is_loaded_without_network_or_backbone(stored: Path) -> None:
    assert ICCLD.from_pretrained(stored).predict(IMAGE).labels.shape == IMAGE.shape[:2]


@pytest.mark.parametrize("backbone", ["auto:user/model", "auto:FOLDER", "auto:../../evil", "auto:"])
def test_a_stored_model_cannot_name_another(strange: Path, evil: Path, tmp_path: Path, backbone: str) -> None:
    _edit(evil, auto_map=CODE, model_type="evil")
    config = json.loads((strange / "config.json").read_text())
    del config["model"]["backbone_config"]
    _edit(strange, model=config["model"] | {"backbone": backbone.replace("FOLDER", str(evil))})
    assert "has no configuration of its backbone" in _refusal(strange)
    assert not (tmp_path / "ran").exists()


def test_the_name_of_a_stored_backbone_is_a_name_alone(strange: Path, evil: Path, tmp_path: Path) -> None:
    _edit(evil, auto_map=CODE)
    _edit_model(strange, backbone=f"auto:{evil}")
    ICCLD.from_pretrained(strange)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"auto_map": CODE}, {"backbone": "resnet50"}, {"use_timm_backbone": True}, {"use_pretrained_backbone": True},
        {"quantization_config": {"quant_method": "bitsandbytes"}}, {"trust_remote_code": True},
        {"backbone_config": {"model_type": "swin"}}, {"configuration_files": ["config.4.0.0.json"]},
        {"attn_implementation": "user/kernel"}, {"_attn_implementation": "https://x/y"},
        {"model_type": "timm_backbone"}, {"model_type": "evil"}, {"model_type": None}, {"model_type": ["swin"]},
        {"model_type": "bert"}, {"model_type": "../swin"},
        {"num_channels": 10**9}, {"depths": [10**9] * 4}, {"depths": [10**6] * 4}, {"depths": [250] * 4},
        {"hidden_sizes": [10**8] * 4}, {"hidden_sizes": [65536] * 4}, {"hidden_sizes": "96"}, {"hidden_sizes": []},
        {"depths": [1] * 100}, {"patch_size": {"a": 1}}, {"hidden_act": "no_such"}, {"hidden_act": "os.system('x')"},
        {"hidden_act": "x" * 10**5}, {"layer_norm_eps": "0"}, {"depths": [1.5] * 4}, {"num_stages": 10**5},
        {"num_channels": 4}, {"depths": [-1, 1, 1, 1]}, {"depths": None},
    ],
)  # fmt: skip
def test_configurations_of_backbones_are_plain_values(strange: Path, change: dict[str, Any]) -> None:
    config = json.loads((strange / "config.json").read_text())["model"]["backbone_config"]
    _edit_model(strange, backbone_config=config | change)
    _refusal(strange)


def test_a_folder_with_code_is_refused(evil: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    plain = json.loads((evil / "config.json").read_text())
    for kind in (plain["model_type"], "evil"):
        _edit(evil, auto_map=CODE, model_type=kind)
        for pretrained in (True, False):
            with pytest.raises(InputError, match="'auto_map', which may run code"):
                build_image_coder(f"auto:{evil}", pretrained=pretrained)
            with pytest.raises(InputError, match="'auto_map', which may run code"):
                build_image_coder("mit_b0", pretrained=str(evil))
    assert not (tmp_path / "ran").exists()


def test_pickles_and_adapters_of_a_folder_are_not_read(evil: Path, tmp_path: Path) -> None:
    weights = load_file(evil / "model.safetensors")
    (evil / "model.safetensors").unlink()
    torch.save(weights, evil / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be read"):
        build_image_coder(f"auto:{evil}", pretrained=True)
    (evil / "adapter_config.json").write_text('{"base_model_name_or_path": "user/model"}')
    with pytest.raises(InputError, match="holds an adapter"):
        build_image_coder(f"auto:{evil}", pretrained=True)


def test_weights_of_another_architecture(backbone_folders: Folders, tmp_path: Path) -> None:
    """Without an error, the network would silently keep its random weights."""
    shutil.copy(backbone_folders["segformer"] / "config.json", tmp_path)
    shutil.copy(backbone_folders["convnextv2"] / "model.safetensors", tmp_path)
    with pytest.raises(InputError, match="another architecture"):
        build_image_coder("mit_b0", pretrained=str(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        {"width": 10**9}, {"width": 8192}, {"width": -1}, {"width": 0}, {"width": True}, {"width": "96"},
        {"width": 16.0}, {"width": 17}, {"latent_channels": 10**9}, {"latent_channels": None}, {"diffusion": 1},
        {"input_height": -1}, {"input_height": 10**9}, {"backbone": 3}, {"backbone": "x" * 10**5},
        {"backbone": "mit_b5"}, {"backbone_config": []}, {"light_steps": True}, {"more": 1},
    ],
)  # fmt: skip
def test_sizes_are_those_of_the_weights(strange: Path, change: dict[str, Any]) -> None:
    _edit_model(strange, **change)
    _refusal(strange)


def test_a_million_classes(strange: Path) -> None:
    classes = [{"name": str(n), "color": [0, 0, 0]} for n in range(10**4)]
    _edit(strange, label_space={"name": "many", "classes": classes})
    assert "must be a list of at most 254" in _refusal(strange)
    (strange / "config.json").write_text("[" * 10**5)
    assert "is not JSON" in _refusal(strange)


def _header(text: str | bytes, data: bytes = b"", size: int | None = None) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw) if size is None else size) + raw + data


def _tensor(shape: list[int], start: int, end: int, dtype: str = "F32") -> str:
    return json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}})


HEADERS = {
    "huge length": _header("{}", size=2**63),
    "length of 100 MB": _header("{}", size=10**8),
    "longer than the file": _header("{}", size=1000),
    "no JSON": _header("[" * 100_000),
    "not a table": _header("[1]"),
    "terabytes": _header(_tensor([10**6, 10**6], 0, 4 * 10**12)),
    "overflow": _header(_tensor([2**40, 2**40, 2**40], 0, 4), b"1234"),
    "nothing of much": _header(_tensor([0, 2**60], 0, 0)),
    "negative": _header(_tensor([-1], 0, 4), b"1234"),
    "backwards": _header(_tensor([1], 4, 0), b"1234"),
    "beyond": _header(_tensor([1], 100, 104), b"1234"),
    "hole": _header(_tensor([1], 4, 8), b"12345678"),
    "overlap": _header(
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b"1234",
    ),
    "no such dtype": _header(_tensor([1], 0, 4, "F1"), b"1234"),
    "another size": _header(_tensor([1], 0, 8, "F32"), b"12345678"),
    "empty": b"",
    "only zeros": bytes(1000),
}


@pytest.mark.parametrize("name", HEADERS)
def test_bad_headers(strange: Path, name: str) -> None:
    (strange / "model.safetensors").write_bytes(HEADERS[name])
    assert "model.safetensors" in _refusal(strange)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.float8_e4m3fn])
def test_weights_are_numbers_with_a_point(strange: Path, dtype: torch.dtype) -> None:
    weights = load_file(strange / "model.safetensors")
    name = next(name for name in weights if name.startswith("denoiser."))
    save_file(weights | {name: torch.zeros(weights[name].shape).to(dtype)}, strange / "model.safetensors")
    assert "numbers of another kind" in _refusal(strange)


def test_files_that_are_none(strange: Path) -> None:
    for name in ("model.safetensors", "config.json"):
        (strange / name).unlink()
        (strange / name).symlink_to("/dev/zero")
        assert "is a device" in _refusal(strange)
