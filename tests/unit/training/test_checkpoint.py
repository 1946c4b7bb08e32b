from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from iccld.errors import RunFailedError
from iccld.training.checkpoint import (
    Checkpoint,
    load_newest,
    pack,
    save_checkpoint,
    unpack,
)


def _save(folder: Path, *steps: int, keep: int = 2) -> None:
    for step in steps:
        save_checkpoint(folder, Checkpoint(step, {"x": torch.full((50,), float(step))}), keep=keep)


def _names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_round_trip(tmp_path: Path) -> None:
    tensors = {
        "float": torch.randn(3, 4),
        "half": torch.randn(5).bfloat16(),
        "count": torch.tensor(7),
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "view": torch.randn(6, 6)[::2, 1:3],
        "learned": torch.randn(2, requires_grad=True),
    }
    tensors["the same again"] = tensors["float"]
    path = save_checkpoint(tmp_path, Checkpoint(12, tensors), keep=1)
    assert path == tmp_path / "step-00000012.safetensors"
    loaded = load_newest(tmp_path)
    assert loaded is not None
    assert loaded.step == 12
    assert loaded.tensors.keys() == tensors.keys()
    for name, value in tensors.items():
        assert loaded.tensors[name].dtype == value.dtype
        assert torch.equal(loaded.tensors[name], value.detach())


def test_equal_states_are_equal_bytes(tmp_path: Path) -> None:
    written = set()
    for index in range(8):
        checkpoint = Checkpoint(3, {"x": torch.ones(2)})
        written.add(save_checkpoint(tmp_path / str(index), checkpoint, keep=1).read_bytes())
    assert len(written) == 1


def test_nothing_saved_yet(tmp_path: Path) -> None:
    assert load_newest(tmp_path / "checkpoints") is None


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    _save(tmp_path, 1, 2, 3, 10, 100)
    assert _names(tmp_path) == ["step-00000010.safetensors", "step-00000100.safetensors"]
    loaded = load_newest(tmp_path)
    assert loaded is not None
    assert loaded.step == 100


def test_rotation_leaves_other_files_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "best.safetensors").write_text("mine")
    _save(tmp_path, 1, 2, 3, keep=1)
    assert _names(tmp_path) == ["best.safetensors", "notes.txt", "step-00000003.safetensors"]


@pytest.mark.parametrize("damage", ["empty", "truncated", "garbage", "no header", "header without step"])
def test_damaged_newest_falls_back(tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    _save(tmp_path, 1, 2)
    newest = tmp_path / "step-00000002.safetensors"
    if damage == "no header":
        save_file({"x": torch.zeros(1)}, newest)
    elif damage == "header without step":
        save_file({"x": torch.zeros(1)}, newest, metadata={"iccld": '{"facts": {}}'})
    else:
        data = newest.read_bytes()
        newest.write_bytes({"empty": b"", "truncated": data[:-20], "garbage": b"x" * len(data)}[damage])
    loaded = load_newest(tmp_path)
    assert loaded is not None
    assert loaded.step == 1
    assert torch.equal(loaded.tensors["x"], torch.ones(50))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"warning: {newest}: damaged checkpoint (")
    assert captured.err.count("\n") == 1


def test_all_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _save(tmp_path, 1, 2)
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    assert load_newest(tmp_path) is None
    assert capsys.readouterr().err.count("warning:") == 2


def test_full_disk_keeps_the_older_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _save(tmp_path, 1, 2)

    def fsync(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(RunFailedError, match="disk is full"):
        _save(tmp_path, 3)
    assert _names(tmp_path) == ["step-00000001.safetensors", "step-00000002.safetensors"]


# -- networks and optimisers ------------------------------------------------------------------------


def _network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))


def _train(network: nn.Module, optimizer: torch.optim.Optimizer, steps: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.randn(2, 2, 5, 5, generator=generator)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("channels_last", [False, True])
def test_training_goes_on_as_if_never_stopped(tmp_path: Path, channels_last: bool) -> None:
    network = _network(0)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    _train(network, optimizer, 3, seed=1)
    tensors = pack({"net": network}) | pack({"opt": optimizer})
    save_checkpoint(tmp_path, Checkpoint(3, tensors), keep=1)
    straight, straight_optimizer = network, optimizer
    resumed = _network(9)
    if channels_last:
        resumed = resumed.to(memory_format=torch.channels_last)
    resumed_optimizer = torch.optim.AdamW(resumed.parameters(), lr=1e-2)
    loaded = load_newest(tmp_path)
    assert loaded is not None
    unpack({"net": resumed}, loaded.tensors)
    unpack({"opt": resumed_optimizer}, loaded.tensors)
    for net, opt in ((straight, straight_optimizer), (resumed, resumed_optimizer)):
        _train(net, opt, 3, seed=2)
    one, other = (pack({"n": n}) | pack({"o": o}) for n, o in (
        (straight, straight_optimizer), (resumed, resumed_optimizer)))  # fmt: skip
    assert one.keys() == other.keys()
    assert "n/1.running_mean" in one
    assert "o/0/exp_avg" in one
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_settings_come_from_the_new_optimizer() -> None:
    network = _network(0)
    old = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=0.3)
    _train(network, old, 1, seed=0)
    new = torch.optim.AdamW(network.parameters(), lr=5e-4, weight_decay=0.1)
    unpack({"o": new}, pack({"o": old}))
    assert (new.param_groups[0]["lr"], new.param_groups[0]["weight_decay"]) == (5e-4, 0.1)
    assert len(new.state) == len(list(network.parameters()))


def test_an_optimizer_that_has_not_stepped_yet() -> None:
    network = _network(0)
    optimizer = torch.optim.AdamW(network.parameters())
    assert pack({"o": optimizer}) == {}
    unpack({"o": optimizer}, {})
    assert not optimizer.state


def test_names_do_not_run_into_each_other() -> None:
    one, other = _network(1), _network(2)
    tensors = pack({"optimizer": one}) | pack({"optimizer2": other})
    target = deepcopy(one)
    unpack({"optimizer2": target}, tensors)
    assert torch.equal(target[0].weight, other[0].weight)


def test_another_network_is_refused() -> None:
    tensors = pack({"net": _network(0)})
    with pytest.raises(RuntimeError):
        unpack({"net": nn.Sequential(nn.Conv2d(2, 5, 3))}, tensors)
