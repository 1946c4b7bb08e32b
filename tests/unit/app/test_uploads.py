from __future__ import annotations

import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from iccld.app.sessions import Upload, check_pixels, safe_name, suffix_of
from iccld.errors import InputError


def _read(path: Path) -> np.ndarray:
    return Upload(path, path.name).read()


def test_images_are_read(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "street.png")
    np.testing.assert_array_equal(_read(tmp_path / "street.png"), image)


def _jpeg() -> bytes:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", image)[1].tobytes()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("notes.png", b"no image at all", r"^notes\.png: is a text"),
        ("empty.png", b"", r"^empty\.png: is empty"),
        ("cut.jpg", _jpeg()[:2000], r"^cut\.jpg: JPEG is truncated"),
    ],
)
def test_what_cannot_be_decoded_is_named_without_the_servers_folders(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        _read(tmp_path / name)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("side", "said"), [(9000, "9000×9000 pixels"), (10000, "10000×10000"), (20000, "far")]
)
def test_huge_images_are_refused_by_their_header(tmp_path: Path, side: int, said: str) -> None:
    """Below Pillow's own limit, where it warns, and where it refuses; the file holds no pixel."""
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + side.to_bytes(4) * 2 + b"\x08\x02\0\0\0"
    header += zlib.crc32(header[12:]).to_bytes(4)
    (tmp_path / "huge.png").write_bytes(header + b"\0\0\0\0IDAT" + zlib.crc32(b"IDAT").to_bytes(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=rf"^huge\.png: has .*{said}") as caught:
            _read(tmp_path / "huge.png")
    assert str(tmp_path) not in str(caught.value)


def test_limit_of_pixels() -> None:
    check_pixels("a.png", 20, 30, max_pixels=600)
    with pytest.raises(InputError, match="31×20 pixels"):
        check_pixels("a.png", 20, 31, max_pixels=600)


def test_files_that_are_gone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^old\.png: is no longer here; upload it again"):
        _read(tmp_path / "old.png")


def test_videos_are_told_by_their_ending(tmp_path: Path) -> None:
    for name, is_video in (("CLIP.MP4", True), ("mp4.png", False), ("drive.m2ts", True)):
        assert Upload(tmp_path / f"stored{suffix_of(name)}", name).is_video is is_video


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("street.png", "street.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\a.png", "a.png"),
        ("Straße 1.JPG", "Straße 1.JPG"),
        ("a\x1b[2J\n\u202egnp.png", "a[2Jgnp.png"),
        ("\ud800.png", "upload.png"),
        ('<b>"x"|?*:.png', "bx.png"),
        ("..png", "upload.png"),
        (".hidden.png", "hidden.png"),
        ("", "upload"),
        ("x" * 500 + ".png", "x" * 100 + ".png"),
    ],
)
def test_names_of_visitors_are_made_safe(name: str, safe: str) -> None:
    assert safe_name(name) == safe
