"""Methods of other packages: only the name that the user gives runs code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from iccld.adaptation import registry
from iccld.adaptation.method import Oracle, SourceOnly
from iccld.build import build_method, reopen_data
from iccld.config import TrainConfig, from_dict
from iccld.errors import InputError
from iccld.labels import CAMVID11
from iccld.methods import METHODS
from iccld.unread import unread_settings

MODULE = """
from pathlib import Path
from iccld.adaptation.method import SourceOnly
Path(__file__).with_name("imported").touch()
class Mine(SourceOnly): pass
class Other: pass
number = 3
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "outside_method.py").write_text(MODULE)
    (tmp_path / "broken_method.py").write_text("raise RuntimeError('no luck')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_loaded", {})
    yield tmp_path
    sys.modules.pop("outside_method", None)


@pytest.mark.parametrize("name", METHODS)
def test_every_name_has_its_class(name: str) -> None:
    assert METHODS[name].endswith(f":{registry.method_class(name).__name__}")


def test_oracle_is_no_baseline() -> None:
    assert registry.method_class("oracle") is Oracle
    assert registry.method_class("source_only") is SourceOnly


def test_a_record_of_somebody_else_runs_no_code(package: Path) -> None:
    config = from_dict({"method": "outside_method:Mine"})
    with pytest.raises(InputError, match="give --method outside_method:Mine to load it"):
        build_method(config, CAMVID11)
    assert reopen_data(config) is None
    assert not (package / "imported").exists()


def test_the_name_that_the_user_gives_is_imported(package: Path) -> None:
    found = registry.load_method("outside_method:Mine")
    assert (package / "imported").exists()
    assert issubclass(found, SourceOnly)
    assert isinstance(build_method(TrainConfig(method="outside_method:Mine"), CAMVID11), found)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("outside_method:Gone", "has no class 'Gone'"),
        ("outside_method:Other", "is not a subclass of iccld.adaptation.method.Method"),
        ("outside_method:number", "is not a subclass"),
        ("missing_method:Mine", "install its package, or set PYTHONPATH"),
        ("broken_method:Mine", "no luck"),
    ],
)
def test_what_is_no_method_is_refused(package: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        registry.load_method(name)


@pytest.mark.parametrize("name", ["dacz", "a:b:c", "a b:c", "../x:y", "module:", ":Mine", "a" * 5000 + ":b"])
def test_names_of_another_form_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="method"):
        from_dict({"method": name})


def test_a_method_of_another_package_may_read_every_setting_of_methods() -> None:
    unread = unread_settings(TrainConfig(method="outside_method:Mine"))
    assert {name for name in unread if name.startswith("adaptation.")} == {
        "adaptation.feature_distance",  # needs a pretrained backbone
        "adaptation.threshold",  # needs another weighting
    }
