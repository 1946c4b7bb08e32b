from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from iccld import build
from iccld.adaptation.iccld import Adaptation
from iccld.adaptation.oracle import Oracle
from iccld.adaptation.source_only import SourceOnly
from iccld.config import AdaptationConfig, DataConfig, TrainConfig, with_values
from iccld.errors import InputError
from iccld.labels import CAMVID11, CITYSCAPES19, SYNTHIA16, LabelSpace, get_label_space, protocol_of
from iccld.pseudo_labels import PseudoLabels

SMALL = TrainConfig(
    device="cpu",
    threads=1,
    data=DataConfig(
        source_count=3,
        target_count=2,
        val_count=2,
        crop=(64, 64),
        source_size=(64, 96),
        num_workers=0,
        batch_size=2,
    ),
)


def _config(**values: Any) -> TrainConfig:
    return with_values(SMALL, **values)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images with labels, three to train on and one to measure on."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 1)):
        for kind, channels in (("images", 3), ("labels", 0)):
            (tmp_path / split / kind).mkdir(parents=True)
            for index in range(count):
                if channels:
                    pixels = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
                else:
                    pixels = rng.integers(0, 19, (64, 96), dtype=np.uint8)
                assert cv2.imwrite(str(tmp_path / split / kind / f"{index}.png"), pixels)
    return tmp_path


# -- methods and models -----------------------------------------------------------------------------


def test_methods() -> None:
    a = AdaptationConfig(
        start=0.5, teacher_steps=3, weighting="pixel", threshold=0.8, keep=0.3, trust=2.0,
        mixed=False, color_jitter=0.1, color_transfer=0.2,
        share_at_one=0.25, self_aligned=0.35, denoising_weight=0.15, reconstruction_weight=0.45,
        adversarial_weight=0.05, adversarial_warmup=0.25,
    )  # fmt: skip
    method = build.build_method(TrainConfig(steps=100, adaptation=a))
    assert isinstance(method, Adaptation)
    ours = (method.start_step, method.teacher_steps, method.pseudo_labels, method.mixed, method.jitter)
    assert ours == (50, 3, PseudoLabels("pixel", 0.8, 0.3, 2.0), False, 0.1)
    assert (method.color_transfer, method.adversarial_weight, method.adversarial_warmup) == (0.2, 0.05, 25)
    for kind, name in ((SourceOnly, "source_only"), (Oracle, "oracle"), (Adaptation, "iccld")):
        method = build.build_method(TrainConfig(method=name, adaptation=a))  # type: ignore[arg-type]
        assert type(method) is kind
        assert (method.supervised.denoising_weight, method.supervised.reconstruction_weight) == (0.15, 0.45)
        assert (method.time_sampling.share_at_one, method.time_sampling.self_aligned) == (0.25, 0.35)


def test_discriminator_only_where_the_method_has_one() -> None:
    for name, weight, expected in (
        ("iccld", 0.02, True),
        ("iccld", 0.0, False),
        ("source_only", 0.02, False),
    ):
        config = _config(method=name, adaptation={"adversarial_weight": weight}, model={"latent_channels": 6})
        discriminator = build.build_discriminator(config, build.build_method(config))
        assert (discriminator is not None) == expected
        if discriminator is not None:
            assert discriminator(torch.zeros(1, 6, 4, 4), torch.zeros(1)).shape == (1, 3, 2, 2)


def test_the_seed_decides_the_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.rand(seed + 5)  # whatever was drawn before
        model = build.build_model(_config(seed=seed, model={"width": 16}), CAMVID11)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


@pytest.mark.parametrize(
    ("backbone", "pretrained", "expected"),
    [
        ("compact", "auto", False),
        ("compact", "yes", True),
        ("efficientnet_lite0", "auto", True),
        ("efficientnet_lite0", "no", False),
        ("mit_b3", "auto", True),
        ("mit_b3", "no", False),
        ("mit_b3", "some/folder", "some/folder"),
        ("auto:facebook/dinov2", "auto", True),
    ],
)
def test_which_backbones_start_from_published_weights(
    monkeypatch: pytest.MonkeyPatch, backbone: str, pretrained: str, expected: bool | str
) -> None:
    asked: dict[str, Any] = {}

    def record(space: LabelSpace, **settings: Any) -> None:
        asked.update(settings)

    monkeypatch.setattr(build, "ICCLD", record)
    inspect.unwrap(build.build_model)(
        _config(model={"backbone": backbone, "pretrained": pretrained}), CAMVID11
    )
    assert asked["pretrained"] == expected
    assert asked["backbone"] == backbone


def test_models_know_the_height_they_are_trained_at() -> None:
    config = _config(model={"width": 16}, data={"target_size": (72, 100)})
    assert build.build_model(config, CAMVID11).spec.input_height == 72
    assert build.build_model(_config(model={"width": 16}), CAMVID11).spec.input_height == 0


# -- data -------------------------------------------------------------------------------------------


def test_data_of_each_method(folder: Path) -> None:
    settings = {"source": "folder", "source_root": str(folder), "source_split": "val"}
    settings |= {"target": "folder", "target_root": str(folder)}
    for name, num_labeled, has_target in (
        ("iccld", 1, True),
        ("source_only", 1, False),
        ("oracle", 3, False),
    ):
        config = _config(method=name, data=settings)
        data = build.build_data(config, build.build_method(config))
        assert (len(data.labeled), data.labeled.has_labels) == (num_labeled, True)
        assert (data.target is not None) == has_target
        if data.target is not None:
            assert not data.target.has_labels, "no method may see the target's labels"
            assert len(data.target) == 3
        assert data.val is not None
        assert len(data.val) == 1
        assert data.missing_val == ""


def test_unlabeled_target_is_not_evaluated(folder: Path) -> None:
    for path in (folder / "val" / "labels").iterdir():
        path.unlink()
    settings = {"source": "folder", "source_root": str(folder)}
    config = _config(data={**settings, "target": "folder", "target_root": str(folder)})
    data = build.build_data(config, build.build_method(config))
    assert data.val is None
    assert "label" in data.missing_val
    assert build.build_evaluation(config, data) is None


def test_scenes_of_the_three_sets_differ() -> None:
    config = _config(data={"source_look": "camera", "target_size": (64, 96), "source_count": 2})
    data = build.build_data(config, build.build_method(config))
    assert data.target is not None
    assert data.val is not None
    sets = [data.labeled, data.target, data.val]
    pictures = [dataset.image(index).tobytes() for dataset in sets for index in range(2)]
    assert len(set(pictures)) == 6
    assert data.labeled.image(0).shape == (64, 96, 3)


@pytest.mark.parametrize("space", ["cityscapes19", "synthia16", "camvid11"])
def test_classes_of_the_model(space: str, folder: Path) -> None:
    settings = {"source": "folder", "source_root": str(folder), "label_space": space}
    config = _config(data={**settings, "target": "folder", "target_root": str(folder)})
    data = build.build_data(config, build.build_method(config))
    assert data.val is not None
    assert data.label_space == data.labeled.label_space == data.val.label_space == get_label_space(space)


def test_classes_of_the_source(tmp_path: Path, folder: Path) -> None:
    ids = "".join(f'{i} = "{"road" if i < 9 else "river"}"\n' for i in range(19))
    (folder / "dataset.toml").write_text(
        f'classes = ["road", "river"]\n[ids]\n{ids}'
        '[splits.train]\nimages = "train/images/*.png"\nlabels = "train/labels/*.png"\n'
    )
    config = _config(
        data={"source": "folder", "source_root": str(folder), "label_space": "source", "target_count": 1}
    )
    data = build.build_data(config, build.build_method(config))
    assert data.label_space.names == ("road", "river")
    assert data.target is not None
    assert data.target.label_space == data.label_space


def test_protocol_of_a_space() -> None:
    assert protocol_of(CITYSCAPES19).name == "cityscapes19"
    assert protocol_of(SYNTHIA16).name == "synthia16"
    own = LabelSpace.from_names("mine", ["road", "river"])
    assert protocol_of(own).names == ("road", "river")


def test_micro_batches_start_where_they_are_told(tmp_path: Path, folder: Path) -> None:
    config = _config(
        data={
            "source": "folder", "source_root": str(folder), "target": "folder", "target_root": str(folder),
            "rare_class_sampling": True,
        }
    )  # fmt: skip
    method = build.build_method(config)
    data = build.build_data(config, method)
    loaders = build.build_loaders(config, data, method, build.build_fabric(config), tmp_path / "cache")
    assert loaders.target is not None
    assert any((tmp_path / "cache").iterdir()), "class counts are kept"
    whole, rest = list(loaders.labeled(0, 4)), list(loaders.labeled(2, 4))
    assert (len(whole), len(rest)) == (4, 2)
    for one, other in zip(whole[2:], rest, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["label"], other["label"])
        assert one["image"].shape == (2, 3, 64, 64)
    assert "label" not in next(loaders.target(0, 1))
    assert not torch.equal(next(loaders.target(0, 1))["image"], whole[0]["image"])


def test_the_drivers_bonnet_is_ignored_in_the_target_alone(tmp_path: Path, folder: Path) -> None:
    config = _config(
        data={
            "source": "folder", "source_root": str(folder), "target": "folder", "target_root": str(folder),
            "ignore_bottom": 0.25, "ignore_top": 0.125, "source_size": None, "crop": (64, 96),
        }
    )  # fmt: skip
    method = build.build_method(config)
    data = build.build_data(config, method)
    loaders = build.build_loaders(config, data, method, build.build_fabric(config), tmp_path)
    assert loaders.target is not None
    valid = next(loaders.target(0, 1))["valid"]
    assert valid[0].all(dim=1).tolist() == [False] * 8 + [True] * 40 + [False] * 16
    assert bool(next(loaders.labeled(0, 1))["valid"].all())


# -- the engine -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "message"),
    [("tpu", "unknown; choose auto, cpu, cuda or mps"), ("cuda", "no CUDA GPU"), ("mps", "no Apple GPU")],
)
def test_devices_that_are_not_there(device: str, message: str) -> None:
    if (device == "cuda" and torch.cuda.is_available()) or (
        device == "mps" and torch.backends.mps.is_available()
    ):
        pytest.skip("it is there")
    with pytest.raises(InputError, match=message):
        build.build_fabric(_config(device=device))


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_engine(precision: str) -> None:
    fabric = build.build_fabric(_config(precision=precision))
    assert str(fabric.device) == "cpu"
    assert fabric.world_size == 1
    with fabric.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
    assert torch.get_num_threads() == 1
