"""What must stay light stays light: `iccld --help` and the modules below the heavy ones."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from iccld import cli

ROOT = Path(__file__).parents[2]
HEAVY = (
    "torch",
    "numpy",
    "cv2",
    "transformers",
    "lightning",
    "matplotlib",
    "jinja2",
    "PIL",
    "diffusers",
    "tyro",
    "onnx",
    "onnxruntime",
    "openvino",
    "scipy",
    "torch._dynamo",
)


def heavy_modules_after(code: str) -> list[str]:
    """Runs code in a fresh interpreter and tells which heavy packages it pulled in."""
    probe = f"{code}\nimport sys; print('loaded', *[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["evalute"], ["data"]])
def test_top_level_help_loads_nothing_heavy(words: list[str]) -> None:
    assert heavy_modules_after(f"from iccld.cli import main; main({words!r})") == []


@pytest.mark.parametrize(
    "module",
    [
        "iccld",
        "iccld.labels",
        "iccld.files",
        "iccld.progress",
        "iccld.presets",
        "iccld.exits",
        "iccld.bench.plan",
    ],
)
def test_light_modules_load_nothing_heavy(module: str) -> None:
    assert heavy_modules_after(f"import {module}") == []


def test_matplotlib_is_loaded_only_to_draw() -> None:
    assert "matplotlib" not in heavy_modules_after("import iccld.reporting.figures, iccld.reporting.tables")


def test_help_of_a_command_does_not_load_torch() -> None:
    modules = [f"iccld.commands.{command.entry.partition(':')[0]}" for command in cli.COMMANDS]
    code = f"import importlib\nfor m in {modules!r}: importlib.import_module(m)"
    assert set(heavy_modules_after(code)) <= {"tyro"}


def test_public_names_arrive_on_first_use() -> None:
    code = "import iccld; assert iccld.ICCLD.__name__ == 'ICCLD'; assert 'Prediction' in dir(iccld)"
    assert "torch" in heavy_modules_after(code)


def test_unknown_public_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'ICCDL'"):
        __import__("iccld").ICCDL  # noqa: B018


def test_layers_are_respected() -> None:
    """The contracts of pyproject.toml; `lint-imports` prints which import breaks one."""
    script = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([script, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_module_has_a_layer() -> None:
    """A new top-level module must be placed in the layers, or nothing would hold it in its place."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    placed = {name.strip(" ()") for layer in layers for name in layer.split("|")}
    found = {
        p.stem for p in (ROOT / "src/iccld").iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    assert found - {"__init__"} == placed


def test_predicting_loads_what_it_needs_and_no_more(tmp_path: Path) -> None:
    """With a backbone of our own: neither the training engine, nor other runtimes, nor transformers."""
    code = f"""
import sys
sys.argv = ["iccld"]
import cv2, numpy
from iccld.cli import main
from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD
folder = {str(tmp_path)!r}
ICCLD(CAMVID11, width=16, latent_channels=4).save_pretrained(folder + "/model")
cv2.imwrite(folder + "/a.png", numpy.zeros((64, 96, 3), numpy.uint8))
assert main(["predict", folder + "/model", folder + "/a.png", "--out", folder + "/out"]) == 0
"""
    assert set(heavy_modules_after(code)) <= {"torch", "numpy", "cv2", "PIL", "tyro"}
