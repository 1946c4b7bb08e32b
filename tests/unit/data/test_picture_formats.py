from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from iccld.data.autodetect.evidence import read_evidence
from iccld.data.image_files import image_size, read_image, read_label
from iccld.data.picture_header import MOST_PIXELS, check_ending
from iccld.errors import InputError

RNG = np.random.default_rng(0)
COLORS = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
IDS = RNG.integers(0, 5, (6, 8), dtype=np.uint8)

READERS = [read_image, read_label, image_size]


def refused(read: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(InputError) as error:
        read(path)
    text = str(error.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    return text


def write_tiff(path: Path, *pages: tuple[np.ndarray, dict[int, Sequence[int]]], order: str = "<") -> Path:
    """Writes a TIFF without an encoder. Each page has the tags of its array and the given tags."""
    data = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    for index, (array, more) in enumerate(pages):
        height, width, samples = (*array.shape, 1)[:3]
        kind = {"u": 1, "i": 2, "f": 3}[array.dtype.kind]
        tags: dict[int, Sequence[int]] = {
            256: [width], 257: [height], 258: [8 * array.itemsize] * samples, 259: [1],
            262: [2 if samples >= 3 else 1], 273: [0], 277: [samples], 278: [height], 279: [array.nbytes],
            339: [kind] * samples,
        }  # fmt: skip
        tags = dict(sorted({**tags, **more}.items()))
        values_at = len(data) + 2 + 12 * len(tags) + 4
        packed = {tag: struct.pack(f"{order}{len(v)}I", *v) for tag, v in tags.items()}
        pixels_at = values_at + sum(len(value) for value in packed.values() if len(value) > 4)
        packed[273] = struct.pack(order + "I", pixels_at)
        block, values = struct.pack(order + "H", len(tags)), b""
        for tag, value in packed.items():
            block += struct.pack(order + "HHI", tag, 4, len(value) // 4)
            if len(value) > 4:
                block += struct.pack(order + "I", values_at + len(values))
                values += value
            else:
                block += value
        following = 0 if index == len(pages) - 1 else pixels_at + array.nbytes
        pixels = array.astype(array.dtype.newbyteorder(order)).tobytes()
        data += block + struct.pack(order + "I", following) + values + pixels
    path.write_bytes(data)
    return path


# ── formats that are not read ───────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"GIF89a", "a GIF picture"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 picture"),
        (b"\xff\x4f\xff\x51\0", "a JPEG 2000 picture"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "an AVIF or HEIC picture"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "an AVIF or HEIC picture"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "an AVIF or HEIC picture"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "or a video"),
        (b"\xff\x0a\0\0", "a JPEG XL picture"),
        (b"\x76\x2f\x31\x01\2\0\0\0", "an OpenEXR picture"),
        (b"P6\n8 6\n255\n" + bytes(144), "a PNM picture"),
        (b"8BPS\0\1", "a Photoshop document"),
        (b"II+\0\x08\0\0\0", "a BigTIFF picture"),
        (b"MM\0+\0\x08\0\0", "a BigTIFF picture"),
        (b"<svg xmlns='x'/>", "a text, perhaps .* an SVG drawing"),
        (b"<!DOCTYPE html><html>", "a text, perhaps a page of HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"hello\n", "a text"),
        (b"\7\7\7\7", "not an image that can be read"),
    ],
)
@pytest.mark.parametrize("read", READERS)
def test_other_formats_are_refused_by_name_whatever_their_ending(
    tmp_path: Path, read: Callable[[Path], object], content: bytes, name: str
) -> None:
    for ending in ("png", "JPG", "tif"):
        path = tmp_path / f"x.{ending}"
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"{name}.*(PNG|remove)"):
            read(path)


@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
@pytest.mark.parametrize("read", READERS)
def test_animations_and_pages_are_not_read_as_their_first_picture(
    tmp_path: Path, read: Callable[[Path], object], ending: str
) -> None:
    path = tmp_path / f"x.{ending}"
    pictures = [Image.fromarray(np.roll(COLORS, step)) for step in range(3)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])
    assert f"has 3 {'pages' if ending == 'tif' else 'frames'}" in refused(read, path)


# ── TIFF ────────────────────────────────────────────────────────────────────

FIVE = np.concatenate([COLORS, COLORS[..., :2]], axis=2)


@pytest.mark.parametrize(
    ("array", "tags", "said"),
    [
        (COLORS[..., 0].astype(np.float32), {}, "32-bit floating-point numbers"),
        (COLORS.astype(np.float64), {}, "64-bit floating-point numbers"),
        (COLORS.astype(np.float16), {}, "16-bit floating-point numbers"),
        (FIVE, {}, "5 channels"),
        (FIVE.astype(np.uint16), {}, "5 channels"),
        (FIVE[..., :4], {262: [1]}, "4 channels"),
        (COLORS, {262: [1]}, "3 channels"),
        (COLORS, {262: [8]}, "not declared as RGB"),
        (COLORS, {262: [9]}, "not declared as RGB"),
        (COLORS[..., 0], {322: [60000], 323: [60000]}, "tiles that are too large"),
        (COLORS[..., 0], {258: [12]}, "12-bit integers"),
    ],
)
@pytest.mark.parametrize("read", READERS)
def test_unusual_tiffs_are_refused_by_name(
    tmp_path: Path, read: Callable[[Path], object], array: np.ndarray, tags: dict[int, list[int]], said: str
) -> None:
    path = write_tiff(tmp_path / "x.TIF", (array, tags))
    text = refused(read, path)
    assert said in text
    assert "PNG" in text


@pytest.mark.parametrize("order", ["<", ">"])
def test_ordinary_tiffs_are_read_exactly(tmp_path: Path, order: str) -> None:
    path = write_tiff(tmp_path / "a.tif", (COLORS, {}), order=order)
    np.testing.assert_array_equal(read_image(path), COLORS)
    assert image_size(path) == (6, 8)
    path = write_tiff(tmp_path / "b.tif", (FIVE[..., :4], {338: [0]}), order=order)  # infrared
    np.testing.assert_array_equal(read_image(path), COLORS)
    path = write_tiff(tmp_path / "c.tif", (COLORS.astype(np.uint16) * 257, {}), order=order)
    np.testing.assert_array_equal(read_image(path), COLORS)
    path = write_tiff(tmp_path / "d.tif", (IDS, {}), order=order)
    np.testing.assert_array_equal(read_label(path), IDS)


def test_labels_of_other_integers_keep_their_ids(tmp_path: Path) -> None:
    large = IDS.astype(np.uint16) * 1000
    np.testing.assert_array_equal(read_label(write_tiff(tmp_path / "a.tif", (large, {}))), large)
    for kind in (np.int32, np.uint32, np.int16):
        path = write_tiff(tmp_path / "b.tif", (IDS.astype(kind), {}))
        np.testing.assert_array_equal(read_label(path), IDS)
        assert "integers" in refused(read_image, path) or kind is np.uint16
    # Pillow would keep only the upper 8 bits, which are 0 here.
    several = np.stack([IDS, IDS * 0, IDS * 0], axis=2).astype(np.uint16)
    np.testing.assert_array_equal(read_label(write_tiff(tmp_path / "c.tif", (several, {}))), IDS)


def test_labels_whose_ids_may_be_wrong_are_refused(tmp_path: Path) -> None:
    assert "0 is white" in refused(read_label, write_tiff(tmp_path / "a.tif", (IDS, {262: [0]})))
    path = tmp_path / "b.tif"
    Image.fromarray(IDS).save(path, compression="jpeg")
    assert "lossy TIFF" in refused(read_label, path)
    Image.fromarray(COLORS).convert("CMYK").save(path)
    assert "CMYK" in refused(read_label, path)


def test_overviews_are_no_pages(tmp_path: Path) -> None:
    small = (COLORS[::2, ::2].copy(), {254: [1]})
    path = write_tiff(tmp_path / "a.tif", (COLORS, {}), small)
    np.testing.assert_array_equal(read_image(path), COLORS)
    assert "2 pages" in refused(read_image, write_tiff(tmp_path / "b.tif", (COLORS, {}), (COLORS, {})))
    data = bytearray((tmp_path / "b.tif").read_bytes())
    struct.pack_into("<I", data, 10 + 12 * data[8], 8)  # the first page is its own next page
    path.write_bytes(data)
    assert "64 pages" in refused(read_image, path)


def test_a_bilevel_mask_reads_the_same_as_image_and_label(tmp_path: Path) -> None:
    mask = IDS > 2
    Image.fromarray(mask).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_label(tmp_path / "a.tif"), mask.astype(np.uint8))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[..., 0], mask * np.uint8(255))


def test_a_photo_of_a_phone_with_a_second_picture_inside_is_read(tmp_path: Path) -> None:
    """JPEG files of cameras also contain previews and gain maps. The first picture is the photo."""
    first, second = Image.fromarray(COLORS), Image.fromarray(COLORS[::2, ::2])
    first.save(tmp_path / "a.mpo", format="MPO", save_all=True, append_images=[second])
    (tmp_path / "a.mpo").rename(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").shape == (6, 8, 3)


def test_lossless_webp_behind_a_color_profile_is_no_lossy_label(tmp_path: Path) -> None:
    Image.fromarray(np.stack([IDS] * 3, axis=2)).save(
        tmp_path / "a.webp", lossless=True, icc_profile=bytes(400)
    )
    np.testing.assert_array_equal(read_label(tmp_path / "a.webp"), IDS)


def test_damaged_tiffs_are_refused_without_warnings(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "x.tif", (IDS, {}))
    data = path.read_bytes()
    for place in range(8, len(data)):  # warnings are errors in tests
        path.write_bytes(data[:place] + b"\xff" + data[place + 1 :])
        with contextlib.suppress(InputError):
            read_label(path)


# ── bombs ───────────────────────────────────────────────────────────────────


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + body


def jpeg(width: int, height: int) -> bytes:
    data = bytearray(cv2.imencode(".jpg", COLORS)[1].tobytes())
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def bmp(width: int, height: int) -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHI", 100, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)
    )


def webp(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(COLORS).save(buffer, "WEBP", lossless=True)
    data = bytearray(buffer.getvalue())
    place = data.index(b"VP8L") + 9
    packed = struct.unpack_from("<I", data, place)[0] >> 28 << 28 | height - 1 << 14 | width - 1
    struct.pack_into("<I", data, place, packed)
    return bytes(data)


def tiff(width: int, height: int) -> bytes:
    page = struct.pack("<H", 2) + struct.pack("<HHIIHHII", 256, 4, 1, width, 257, 4, 1, height) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + page


@pytest.mark.parametrize("make", [png, jpeg, bmp, webp, tiff])
@pytest.mark.parametrize("read", READERS)
def test_pictures_of_too_many_pixels_are_refused_before_they_are_decoded(
    tmp_path: Path,
    read: Callable[[Path], object],
    make: Callable[[int, int], bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cv2, "imdecode", None)
    path = tmp_path / "x.png"
    for side in (13_378, 16_384) if make is webp else (13_378, 30_000, 60_000):
        path.write_bytes(make(side, side))
        assert side * side > MOST_PIXELS
        assert f"{side}×{side} pixels" in refused(read, path)


def test_files_that_state_two_sizes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    second = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0))
    path.write_bytes(png(8, 6, second))
    assert "damaged" in refused(read_image, path)
    whole = jpeg(8, 6)
    place = whole.index(b"\xff\xc0")
    frame = jpeg(30_000, 30_000)[place : place + 19]
    path.write_bytes(whole[:place] + frame + whole[place:])
    assert "cannot be decoded" in refused(read_image, path)
    canvas = b"VP8X" + struct.pack("<II", 10, 0) + 2 * (3999).to_bytes(3, "little")
    chunks = canvas + webp(8, 6)[12:]
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks)
    assert "damaged" in refused(read_image, path)


@pytest.mark.parametrize("read", [read_image, read_label])
def test_a_tiff_whose_tags_would_fill_the_memory_is_refused(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    path = write_tiff(tmp_path / "x.tif", (IDS, {}))
    data = path.read_bytes()
    (count,) = struct.unpack_from("<H", data, 8)
    more = b"".join(struct.pack("<HHII", 40_000 + i, 7, 1 << 20, 0) for i in range(1000))
    path.write_bytes(data[:8] + struct.pack("<H", count + 1000) + data[10 : 10 + 12 * count] + more)
    assert "damaged" in refused(read, path)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"iTXt"])
def test_text_that_unpacks_to_much_is_not_unpacked(
    tmp_path: Path, kind: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    packed = zlib.compress(bytes(40_000_000))
    content = {b"zTXt": b"a\0\0", b"iCCP": b"a\0\0", b"iTXt": b"a\0\1\0\0\0"}[kind] + packed
    path = tmp_path / "x.png"
    data = cv2.imencode(".png", IDS)[1].tobytes()
    path.write_bytes(data[:33] + chunk(kind, content) + data[33:])
    assert image_size(path) == (6, 8)
    np.testing.assert_array_equal(read_image(path)[..., 0], IDS)
    np.testing.assert_array_equal(read_label(path), IDS)
    assert not capfd.readouterr().err  # no warning of libpng


def test_a_jpeg_of_very_many_scans_is_refused(tmp_path: Path) -> None:
    data = cv2.imencode(".jpg", np.zeros((2000, 3000), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[
        1
    ].tobytes()
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    assert read_image(path).shape == (2000, 3000, 3)
    path.write_bytes(data[:-2] + data[data.index(b"\xff\xda") : -2] * 900 + b"\xff\xd9")
    assert "scans" in refused(read_image, path)


def test_what_is_no_file_is_refused_by_every_reader(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.symlink_to("/dev/zero")
    for read in (*READERS, check_ending):
        assert "a device" in refused(read, path)
    assert "a device" in read_evidence([path]).fault


def test_too_little_memory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    cv2.imwrite(str(path), COLORS)

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(cv2, "imdecode", fail)
    assert "memory" in refused(read_image, path)
