"""Methods and backbones of other packages: only names that the user gives, or installed packages offer, run code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from iccld import plugins
from iccld.adaptation.method import Method, Oracle, SourceOnly
from iccld.bench.plan import read_plan
from iccld.build import build_method, build_model, reopen_data
from iccld.commands.train_checks import num_branches_of
from iccld.config import TrainConfig, from_dict, with_settings
from iccld.errors import InputError
from iccld.labels import CAMVID11
from iccld.methods import METHODS
from iccld.models.iccld import ICCLD
from iccld.models.image_coder import build_image_coder, pretrained_weights
from iccld.models.layers import ImageCoder
from iccld.unread import unread_settings

MODULE = """
from pathlib import Path
import torch
from torch import nn
from iccld.adaptation.method import SourceOnly
from iccld.models.layers import ImageCoder
Path(__file__).with_name("imported").touch()
class Mine(SourceOnly): pass
class Other: pass
class Fields(SourceOnly):
    uses_target: bool = True
class Branches(SourceOnly):
    num_branches = 4
number = 3
class Plain(ImageCoder):
    channels = {2: 8, 4: 8, 8: 8, 16: 8, 32: 8}
    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(nn.Conv2d(3 if s == 2 else 8, 8, 3, 2, 1) for s in self.channels)
    def forward(self, images):
        features, x = {}, images
        for stride, stage in zip(self.channels, self.stages):
            x = features[stride] = stage(x)
        return features
class Trained(Plain):
    def __init__(self, pretrained=False):
        super().__init__()
        if pretrained:
            nn.init.constant_(self.stages[0].weight, 0.5)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path with modules, which nobody has installed."""
    (tmp_path / "outside.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("raise RuntimeError('no luck')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_imported", {})
    plugins.installed.cache_clear()
    yield tmp_path
    plugins.installed.cache_clear()
    sys.modules.pop("outside", None)


@pytest.fixture
def installed(package: Path) -> Path:
    """The same modules as an installed package that offers them by entry points."""
    info = package / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[iccld.methods]\nmine = outside:Mine\ndamaged = broken:Mine\n"
        "[iccld.backbones]\nplain = outside:Plain\ntrained = outside:Trained\nno_network = outside:Other\n"
    )
    return package


@pytest.mark.parametrize("name", METHODS)
def test_every_built_in_name_has_its_class(name: str) -> None:
    pretrained = {"model.pretrained": "no"}
    method = build_method(with_settings(TrainConfig(), {"method": name, **pretrained}), CAMVID11)
    assert isinstance(method, Method)
    assert METHODS[name].endswith(f":{type(method).__name__}")
    assert isinstance(method, Oracle) == (name == "oracle")


# -- what nobody has asked for -----------------------------------------------------------------------


def test_a_record_of_somebody_else_runs_no_code(package: Path, tmp_path: Path) -> None:
    config = from_dict({"method": "outside:Mine", "model": {"backbone": "outside:Plain"}})
    with pytest.raises(InputError, match="set ICCLD_IMPORT=outside:Mine, or install"):
        build_method(config, CAMVID11)
    with pytest.raises(InputError, match="set ICCLD_IMPORT=outside:Plain, or install"):
        build_model(config, CAMVID11)
    assert reopen_data(config) is None
    model = ICCLD(CAMVID11, width=16, latent_channels=4)
    model.save_pretrained(tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    path.write_text(path.read_text().replace('"compact"', '"outside:Plain"'))
    with pytest.raises(InputError, match=r"^backbone outside:Plain: is code of another package"):
        ICCLD.from_pretrained(tmp_path / "m")
    assert not (package / "imported").exists()


def test_the_environment_names_classes_for_every_command(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins.import_class("backbone", "outside:Plain")
    ICCLD(CAMVID11, backbone="outside:Plain", width=16, latent_channels=4).save_pretrained(tmp_path / "m")
    monkeypatch.setattr(plugins, "_imported", {})
    monkeypatch.setenv("ICCLD_IMPORT", "outside:Mine,outside:Plain")
    assert type(ICCLD.from_pretrained(tmp_path / "m").image_coder).__name__ == "Plain"
    assert type(build_method(TrainConfig(method="outside:Mine"), CAMVID11)).__name__ == "Mine"


@pytest.mark.parametrize("name", ["dacz", "a:b:c", "a b:c", "../x:y", "module:", ":Mine", "a" * 5000 + ":b"])
def test_names_of_another_form_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="method"):
        from_dict({"method": name})
    with pytest.raises(InputError, match="backbone"):
        build_image_coder(name)


# -- what the user names -----------------------------------------------------------------------------


def test_the_class_that_the_user_names_is_imported(package: Path) -> None:
    plugins.import_class("method", "outside:Mine")
    assert (package / "imported").exists()
    method = build_method(TrainConfig(method="outside:Mine"), CAMVID11)
    assert type(method).__name__ == "Mine"
    assert isinstance(method, SourceOnly)
    plugins.import_class("backbone", "outside:Plain")
    assert pretrained_weights("outside:Plain", "auto") is False
    model = ICCLD(CAMVID11, backbone="outside:Plain", width=16, latent_channels=4)
    assert isinstance(model.image_coder, ImageCoder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("outside:Gone", "has no class 'Gone'"),
        ("missing:Mine", "install its package, or set PYTHONPATH"),
        ("broken:Mine", "no luck"),
    ],
)
def test_what_cannot_be_imported(package: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plugins.import_class("method", name)


@pytest.mark.parametrize("name", ["outside:Other", "outside:number", "outside:Plain"])
def test_what_is_no_method(package: Path, name: str) -> None:
    plugins.import_class("method", name)
    with pytest.raises(InputError, match=r"is not a subclass of iccld\.adaptation\.method\.Method"):
        build_method(TrainConfig(method=name), CAMVID11)


def test_a_method_of_another_package_may_read_every_setting_of_methods() -> None:
    unread = unread_settings(TrainConfig(method="outside:Mine"))
    assert {name for name in unread if name.startswith("adaptation.")} == {
        "adaptation.feature_distance",  # needs a pretrained backbone
        "adaptation.threshold",  # needs another weighting
    }


# -- what is installed -------------------------------------------------------------------------------


def test_installed_packages_offer_methods_and_backbones_by_name(installed: Path, tmp_path: Path) -> None:
    config = from_dict({"method": "mine", "model": {"backbone": "trained"}})
    assert type(build_method(config, CAMVID11)).__name__ == "Mine"
    assert pretrained_weights("trained", "auto") is True
    assert pretrained_weights("trained", "no") is False
    model = build_model(config, CAMVID11)
    assert (model.image_coder.stages[0].weight == 0.5).all()
    model.save_pretrained(tmp_path / "m")
    again = ICCLD.from_pretrained(tmp_path / "m")
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_installed_packages_that_are_damaged(installed: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be imported from its package .*no luck"):
        build_method(from_dict({"method": "damaged"}), CAMVID11)
    with pytest.raises(InputError, match="is not a subclass"):
        build_image_coder("no_network")


def test_a_class_with_fields_must_be_a_dataclass(package: Path) -> None:
    plugins.import_class("method", "outside:Fields")
    with pytest.raises(InputError, match=r"write @dataclass\(frozen=True\) above it"):
        plugins.find_class("method", "outside:Fields", Method)


def test_a_class_states_its_number_of_branches(package: Path) -> None:
    for name in ("outside:Mine", "outside:Branches"):
        plugins.import_class("method", name)
    numbers = [num_branches_of(from_dict({"method": f"outside:{name}"})) for name in ("Mine", "Branches")]
    assert numbers == [2, 4]


def test_a_broken_module_is_not_called_missing(package: Path) -> None:
    with pytest.raises(InputError, match=r"\(no luck\); correct its module"):
        plugins.import_class("method", "broken:Mine")
    with pytest.raises(InputError, match="set PYTHONPATH to its folder"):
        plugins.import_class("method", "no_such_module:Mine")


def test_a_plan_takes_classes_of_installed_packages(installed: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    text = 'title = "t"\nseeds = [0]\npredictions = [[1, 1]]\n[tasks.a]\npreset = "demo"\n'
    plan.write_text(text + '[variants.own]\ntitle = "own"\nmethod = "mine"\n')
    assert read_plan(plan).variants["own"].method == "mine"
    plan.write_text(text + '[variants.own]\ntitle = "own"\nmethod = "nine"\n')
    with pytest.raises(InputError, match="unknown method 'nine'"):
        read_plan(plan)
    assert not (installed / "imported").exists()
