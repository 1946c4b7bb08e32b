from __future__ import annotations

import os
from pathlib import Path

import pytest

from iccld.data.folders import FOLLOW_OUTSIDE
from iccld.errors import InputError
from iccld.inference.inputs import InputVideo, find_inputs, split_inputs
from iccld.inference.ranking import Candidate


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


def test_linked_folders_are_followed_and_loops_end(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data = tmp_path / "data"
    data.mkdir()
    (data / "drive").symlink_to(photos)
    (photos / "loop").symlink_to(photos)
    (tmp_path / "link").symlink_to(photos)
    assert names(tmp_path / "link") == ["a", "b", "city/c", "city/deep/d"]
    with pytest.raises(InputError, match="drive: leads out of the folder"):
        names(data)
    monkeypatch.setenv(FOLLOW_OUTSIDE, "1")
    assert names(data) == ["drive/a", "drive/b", "drive/city/c", "drive/city/deep/d"]


def test_a_link_to_itself_does_not_stop_the_others(photos: Path):
    (photos / "loop.png").symlink_to(photos / "loop.png")
    assert names(photos, out=photos / "out") == ["a", "b", "loop", "city/c", "city/deep/d"]


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


# -- video -------------------------------------------------------------------------------------------


def test_videos_are_found_beside_images(photos: Path):
    (photos / "city" / "drive.MP4").write_bytes(b"x")
    found = find_inputs([str(photos)])
    assert [item.name for item in found] == ["a", "b", "city/c", "city/drive", "city/deep/d"]
    images, videos = split_inputs(found)
    assert [image.name for image in images] == ["a", "b", "city/c", "city/deep/d"]
    assert [(video.path, video.is_file) for video in videos] == [(photos / "city" / "drive.MP4", True)]
    assert names(photos / "**" / "*.MP4") == ["city/drive"]


@pytest.mark.parametrize(
    ("text", "name", "camera", "title"),
    [
        ("camera:0", "camera_0", 0, "camera:0"),
        ("camera:12", "camera_12", 12, "camera:12"),
        ("rtsp://10.0.0.2:554/live/front.sdp", "front", None, "rtsp://10.0.0.2:554/live/front.sdp"),
        ("rtsp://me:pass@yard.lan/", "yard.lan", None, "rtsp://yard.lan/"),
        ("rtsp://me:p@ss@yard.lan/a@b", "a_b", None, "rtsp://yard.lan/a@b"),
        ("http://host/a b/?x=1&y=/z", "a_b", None, "http://host/a b/?x=1&y=/z"),
        ("https://host/../..", "host", None, "https://host/../.."),
    ],
)
def test_cameras_and_addresses(text: str, name: str, camera: int | None, title: str):
    (video,) = find_inputs([text, text])
    assert isinstance(video, InputVideo)
    assert (video.source, video.name, video.camera, video.title) == (text, name, camera, title)
    assert not video.is_file


def test_no_message_holds_a_password():
    for text in ("rtsp://me:s@cret@[10.0.0.2/x", "rtsp://me:s@cret\u2100@host/x"):
        with pytest.raises(InputError, match="is not an address") as caught:
            find_inputs([text])
        assert "cret" not in str(caught.value)


def test_file_names_that_are_no_utf8_can_be_printed():
    path = Path(os.fsdecode(b"day/caf\xe9.mp4"))
    video = InputVideo(str(path), "caf")
    assert video.title == "day/caf\ufffd.mp4"
    assert video.path == path
    candidate = Candidate(video, 7)
    assert (candidate.file, candidate.title) == ("day/caf\ufffd.mp4", "caf\ufffd.mp4#7")


def test_files_come_before_what_may_have_no_end(photos: Path):
    (photos / "x.mkv").write_bytes(b"x")
    _, videos = split_inputs(find_inputs(["camera:1", str(photos / "x.mkv"), "rtsp://host/y"]))
    assert [video.name for video in videos] == ["x", "camera_1", "y"]


def test_videos_that_would_be_written_to_one_place_are_refused(photos: Path):
    (photos / "x.mkv").write_bytes(b"x")
    (photos / "x.png").write_bytes(b"x")  # pictures do not clash with videos of their name
    assert "x" in names(photos)
    (photos / "x").mkdir()
    (photos / "x" / "one.png").write_bytes(b"x")
    assert "x/one" in names(photos)
    (photos / "x" / "000012.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"000012\.png would be written where frames of .*x\.mkv go"):
        find_inputs([str(photos)])
    (photos / "x.avi").write_bytes(b"x")
    with pytest.raises(InputError, match=r"x\.avi and .*x\.mkv would both be written to x\.mp4"):
        find_inputs([str(photos)])


def test_a_number_alone_is_no_camera(photos: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(photos)
    with pytest.raises(InputError, match="0: no such file or folder; a camera is named camera:0"):
        find_inputs(["0"])
