"""Outputs are never written over or among inputs, nor over the files of others."""

from __future__ import annotations

from pathlib import Path

import pytest

from iccld.errors import InputError
from iccld.outputs import Places, is_inside, is_same, places_of


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``data`` with images, a run in ``run``, and other files; the working directory."""
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "images" / "a.png").write_bytes(b"\x89PNG mine")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for name in ("run.json", "config.json", "model.safetensors", "scores.json"):
        (tmp_path / "run" / name).write_text("{}")
    (tmp_path / "notes.md").write_text("# notes")
    (tmp_path / "old.json").write_text("  {}")
    (tmp_path / "old.html").write_text("<!doctype html>\n")
    (tmp_path / "old.onnx").write_bytes(b"x" * (1 << 20) + b"iccld")
    (tmp_path / "foreign.onnx").write_bytes(b"pytorch")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    (tmp_path / "hard.png").hardlink_to(tmp_path / "data" / "images" / "a.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("data/report.json", "json", "lies in the data folder data"),
        ("data/images/new.png", "png", "lies in the data folder"),
        ("link/images/new.png", "png", "lies in the data folder"),
        ("run/../data/x.json", "json", "lies in the data folder"),
        ("link/../data/x.json", "json", "lies in the data folder"),
        ("hard.png", "png", "is read by this command"),
        ("run/config.json", "json", "belongs to the run"),
        ("run/model.safetensors", "graph", "belongs to the run"),
        ("run/checkpoints/a.json", "json", "belongs to the run"),
        ("run", "json", "is a folder"),
        ("notes.md", "json", "is there already and is no JSON file"),
        ("notes.md", "html", "is there already and is no HTML file"),
        ("old.json", "png", "is there already and is no PNG file"),
        ("foreign.onnx", "graph", "was not exported by iccld"),
        ("new.json", "json", ""),
        ("old.json", "json", ""),
        ("old.html", "html", ""),
        ("old.onnx", "graph", ""),
        ("run/scores.json", "json", ""),
        ("run/new.onnx", "graph", ""),
        ("-", "json", ""),
    ],
)
def test_files(path: str, kind: str, message: str, root: Path) -> None:
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    places = Places(
        files={"--to": (Path(path), kind)},
        data=["data", root / "data" / "images" / "a.png", None],
        models=["run", "user/model"],
    )
    if message:
        with pytest.raises(InputError, match=message) as caught:
            places.check()
        assert str(caught.value).startswith(f"--to {path}: ")
    else:
        places.check()
    assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("folder", "message", "beside"),
    [
        ("data", "is the input data", True),
        (".", "holds the input data", True),
        ("link", "is the input data", True),
        ("data/results", "lies in the data folder data", False),
        ("data/results", "", True),
        ("data/../results", "", False),
        ("database", "", False),
    ],
)
def test_folders(folder: str, message: str, beside: bool, root: Path) -> None:
    places = Places(folders={"--out": Path(folder), "--none": None}, data=["data"], may_lie_in_data=beside)
    if message:
        with pytest.raises(InputError, match=f"--out {folder}: {message}"):
            places.check()
    else:
        places.check()


def test_two_outputs_in_one_file(root: Path) -> None:
    (root / "twin").symlink_to(root)
    places = Places(files={"--json": (Path("a.json"), "json"), "--report": (Path("twin/a.json"), "html")})
    with pytest.raises(InputError, match=r"--report twin/a\.json: is the file of --json too"):
        places.check()


def test_paths_that_do_not_exist_yet(root: Path) -> None:
    assert is_same(Path("gone"), Path("run/../gone"))
    assert is_inside(Path("link/new/x"), Path("data"))
    assert not is_inside(Path("data"), Path("data/new"))


def test_places_that_are_named(root: Path) -> None:
    words = ["data", "data/images/*.png", "*.png", "rtsp://host/*", "camera:0", "gone.png", "data/**/*.png"]
    assert places_of(words) == [Path("data"), Path("data/images"), Path(), Path("data")]
