"""Tests of the package ``street_scenes`` without ``iccld``, and of its command against ``iccld data scenes``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from iccld.cli import main as iccld
from street_scenes.__main__ import main
from street_scenes.files import label_id_table

SIZE = ("--height", "48", "--width", "64")


@pytest.fixture
def street_scenes(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def call(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["street-scenes", *map(str, words)])
        return main()

    return call


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def test_the_package_loads_without_torch_and_iccld() -> None:
    code = "import sys, street_scenes.__main__; print({'torch', 'iccld'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_both_commands_write_the_same_pixels(street_scenes, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    import cv2
    import numpy as np

    one, other = tmp_path / "one", tmp_path / "other"
    assert street_scenes(one, *SIZE, "--count", 3, "--seed", 2, "--processes", 1) == 0
    assert iccld(["data", "scenes", str(other), *SIZE, "--count", "3", "--seed", "2"]) == 0
    assert files_of(one).keys() == files_of(other).keys()
    assert len(files_of(one)) == 6
    for name in files_of(one):
        first, second = (cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED) for folder in (one, other))
        np.testing.assert_array_equal(first, second)


def test_scenes_that_are_there_are_kept(street_scenes, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    assert street_scenes(tmp_path, *SIZE, "--count", 2, "--processes", 2) == 0
    before = files_of(tmp_path)
    assert street_scenes(tmp_path, *SIZE, "--count", 3, "--processes", 1) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 scenes written, 2 kept")
    assert files_of(tmp_path).items() >= before.items()
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(
    "words",
    [("--count", "0"), ("--height", "20"), ("--look", "film"), ("--split", "../up"), ("--seed", "-1")],
    ids=" ".join,
)
def test_bad_flags_are_refused(street_scenes, words: tuple[str, ...], tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SystemExit) as ended:
        street_scenes(tmp_path / "out", *words)
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_one_line(street_scenes, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "file").write_text("")
    assert street_scenes(tmp_path / "file", *SIZE, "--count", 1) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(tmp_path / "file") in said


def test_labels_are_those_of_cityscapes_scripts() -> None:
    labels = pytest.importorskip("cityscapesscripts.helpers.labels")
    table = label_id_table()
    for label in labels.labels:
        if label.trainId not in (-1, 255):
            assert table[label.trainId] == label.id
    assert (table[19:] == 0).all()
