from __future__ import annotations

from pathlib import Path

import pytest

from iccld.errors import InputError
from iccld.inference.inputs import find_inputs


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in (
        "b.jpg",
        "a.PNG",
        "city/c.png",
        "city/deep/d.tif",
        "notes.txt",
        ".hidden.png",
        "city/c.json",
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def names(*inputs: object, out: Path | None = None) -> list[str]:
    return [image.name for image in find_inputs([str(i) for i in inputs], out)]


def test_a_folder_is_taken_with_all_below_it_and_keeps_its_structure(photos: Path):
    assert names(photos) == ["a", "b", "city/c", "city/deep/d"]


def test_a_single_file_gets_its_plain_name(photos: Path):
    (found,) = find_inputs([str(photos / "city" / "c.png")])
    assert found.name == "c"
    assert found.path == photos / "city" / "c.png"


def test_globs_keep_the_structure_below_their_fixed_part(photos: Path):
    assert names(photos / "*" / "c.*") == ["city/c"]
    assert names(photos / "**" / "*.png") == ["city/c"]
    assert names(photos / "c*") == ["city/c", "city/deep/d"]  # folders that match are taken whole
    assert names(photos / "city" / "?.png") == ["c"]


def test_globs_relative_to_the_working_folder(photos: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(photos)
    assert names("*.jpg") == ["b"]
    assert names("../photos/city/*.png") == ["c"]
    assert names(".") == ["a", "b", "city/c", "city/deep/d"]


def test_a_file_whose_name_looks_like_a_glob_is_a_file(photos: Path):
    (photos / "x[1].png").write_bytes(b"x")
    assert names(photos / "x[1].png") == ["x[1]"]


def test_names_with_dots_keep_them(photos: Path):
    (photos / "frame.0001.png").write_bytes(b"x")
    assert "frame.0001" in names(photos)


def test_an_image_named_twice_is_predicted_once(photos: Path):
    assert names(photos / "b.jpg", photos / "*.jpg", photos / "b.jpg") == ["b"]


def test_outputs_beside_the_inputs_do_not_become_inputs(photos: Path):
    out = photos / "out"
    (out / "labels").mkdir(parents=True)
    (out / "labels" / "a.png").write_bytes(b"x")
    assert names(photos, out=out) == ["a", "b", "city/c", "city/deep/d"]
    assert "out/labels/a" in names(photos)


def test_linked_folders_are_followed_and_loops_end(photos: Path, tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "drive").symlink_to(photos)
    (photos / "loop").symlink_to(photos)
    assert names(data) == ["drive/a", "drive/b", "drive/city/c", "drive/city/deep/d"]


def test_two_images_for_one_output_are_refused(photos: Path, tmp_path: Path):
    (photos / "b.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"b\.jpg and .*b\.png would both be written to b\.png"):
        find_inputs([str(photos)])
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.png").write_bytes(b"y")
    with pytest.raises(InputError, match=r"would both be written to a\.png"):
        find_inputs([str(photos / "a.PNG"), str(other / "a.png")])


def test_what_cannot_be_predicted_is_refused_by_name(photos: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for text, message in (
        (photos / "none.png", "no such file"),
        (photos / "*.bmp", "matches no image"),
        (tmp_path / "empty", "holds no image"),
        (photos / "notes.txt", "not an image"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            find_inputs([str(photos / "b.jpg"), str(text)])
        assert str(text) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no input"):
        find_inputs([])
