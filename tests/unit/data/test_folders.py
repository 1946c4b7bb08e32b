from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_data import save_gray

from iccld import cli
from iccld.data import folders
from iccld.data.autodetect.guess import survey
from iccld.data.check import check_dataset
from iccld.data.datasets import find_files
from iccld.data.folders import FOLLOW_OUTSIDE, files_below, walk
from iccld.data.inputs import find_inputs
from iccld.errors import InputError
from iccld.inference.pairing import pair_files


def add(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_gray(path, np.zeros((2, 3), np.uint8))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Returns a data set's folder, with a picture and a folder outside of it."""
    for name in ("set/images/1.png", "set/labels/1.png", "set/store/2.png", "outside/3.png"):
        add(tmp_path / name)
    return tmp_path / "set"


READERS: dict[str, Callable[[Path], object]] = {
    "open": lambda root: find_files("folder", root, "train", needs_labels=False),
    "check": lambda root: check_dataset("folder", root),
    "init": survey,
    "predict": lambda root: find_inputs([str(root / "images")]),
    "glob": lambda root: find_inputs([str(root / "images" / "**" / "*.png")]),
    "evaluate": lambda root: pair_files(root / "images", root / "labels"),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("target", ["3.png", ""], ids=["file", "folder"])
def test_links_out_of_the_named_folder_are_refused_unless_the_user_allows_them(
    data: Path, read: Callable[[Path], object], target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = data / "images" / ("link.png" if target else "more")
    link.symlink_to(data.parent / "outside" / target)
    with pytest.raises(InputError) as error:
        read(data)
    assert str(link) in str(error.value)
    assert "leads out of" in str(error.value)
    assert "--follow-outside" in str(error.value)
    monkeypatch.setenv(FOLLOW_OUTSIDE, "1")
    read(data)


def test_links_within_the_data_set_and_a_linked_root_are_followed(data: Path, tmp_path: Path) -> None:
    (data / "images" / "2.png").symlink_to("../store/2.png")
    (data / "labels" / "2.png").symlink_to(data / "store" / "2.png")
    (tmp_path / "link").symlink_to(data)
    assert len(find_files("folder", tmp_path / "link", "train", True).pairs) == 2


@pytest.mark.parametrize("kind", ["cityscapes", "gta5", "synthia", "camvid"])
def test_a_linked_folder_of_a_layout_is_refused_before_it_is_walked(tmp_path: Path, kind: str) -> None:
    inner = {"cityscapes": "leftImg8bit/val", "gta5": "images", "synthia": "RGB", "camvid": "val/images"}[
        kind
    ]
    place = tmp_path / "set" / inner
    place.parent.mkdir(parents=True)
    place.symlink_to("/")
    split = "val" if kind in ("cityscapes", "camvid") else "train"
    with pytest.raises(InputError, match="leads out of"):
        find_files(kind, tmp_path / "set", split, needs_labels=False)


@pytest.mark.parametrize(
    "text", ['images = "/**/*.png"', 'images = "../outside/*.png"', 'images = "a/../../**/x.png"']
)
def test_globs_of_a_description_do_not_leave_its_folder(data: Path, text: str) -> None:
    (data / "dataset.toml").write_text(f'{text}\nclasses = ["a"]\n')
    (data / "a").mkdir()
    with pytest.raises(InputError, match="leads out of"):
        find_files("folder", data, "train", needs_labels=False)


@pytest.mark.parametrize("place", ["/etc/passwd", "../secret.txt", "link.txt"])
def test_a_list_outside_is_not_read_and_nothing_of_it_is_printed(data: Path, place: str) -> None:
    (data.parent / "secret.txt").write_text("root:secret\n")
    (data / "link.txt").symlink_to("../secret.txt")
    (data / "dataset.toml").write_text(f'images = "images/*.png"\nlist = "{place}"\nclasses = ["a"]\n')
    with pytest.raises(InputError, match="leads out of") as error:
        find_files("folder", data, "train", needs_labels=False)
    assert "root:" not in str(error.value)


def test_a_list_that_is_a_pipe_is_not_waited_for(data: Path) -> None:
    os.mkfifo(data / "train.txt")
    (data / "dataset.toml").write_text('images = "images/*.png"\nlist = "train.txt"\nclasses = ["a"]\n')
    with pytest.raises(InputError, match=r"train\.txt"):
        find_files("folder", data, "train", needs_labels=False)


def test_the_flag_of_the_command_line_holds_for_that_command_alone(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(FOLLOW_OUTSIDE, raising=False)
    (data / "images" / "3.png").symlink_to(data.parent / "outside" / "3.png")
    (data / "labels" / "3.png").symlink_to(data.parent / "outside" / "3.png")
    command = ["data", "check", "folder", str(data)]
    assert cli.main(command) == 2
    assert "leads out of" in capsys.readouterr().err
    assert cli.main([*command, "--follow-outside"]) == 0
    assert FOLLOW_OUTSIDE not in os.environ
    capsys.readouterr()


def test_links_that_multiply_are_refused(tmp_path: Path) -> None:
    """Of thirty folders, each has two links to the next folder, so a billion paths lead to the last folder."""
    for level in range(30):
        (tmp_path / f"{level}").mkdir()
        for name in ("a", "b"):
            (tmp_path / f"{level}" / name).symlink_to(tmp_path / f"{level + 1}")
    add(tmp_path / "30" / "x.png")
    with pytest.raises(InputError, match="links lead to this folder"):
        list(files_below(tmp_path, str.isprintable))


def test_folders_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path.joinpath(*["d"] * 80)
    deep.mkdir(parents=True)
    with pytest.raises(InputError, match="64 folders deep"):
        list(walk(tmp_path))
    monkeypatch.setattr(folders, "_MOST_ENTRIES", 3)
    for name in range(4):
        (tmp_path / f"{name}.png").touch()
    with pytest.raises(InputError, match="holds more than 3 files"):
        list(walk(tmp_path))


def test_pictures_of_other_formats_are_counted_where_there_are_no_others(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jp2").write_bytes(b"\0\0\0\x0cjP  \r\n\x87\n")
    with pytest.raises(InputError, match=r"but 1 in formats that are not read, such as a\.jp2"):
        find_files("folder", tmp_path, "train", False)
    (found,) = find_inputs([str(tmp_path)])
    assert found.name == "images/a"
