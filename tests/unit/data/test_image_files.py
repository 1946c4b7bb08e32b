from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_data import (
    random_ids,
    random_image,
    save_gray,
    save_palette,
    save_rgb,
    save_synthia_label,
    truncate,
)
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from iccld.data.image_files import image_size, is_image_name, read_image, read_label, write_png
from iccld.data.picture_header import check_ending
from iccld.errors import InputError

RNG = np.random.default_rng(0)


def one_line(error: pytest.ExceptionInfo[InputError], path: Path) -> str:
    text = str(error.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def raw_png(path: Path, width: int, height: int, depth: int, kind: int, rows: bytes) -> Path:
    """Writes a PNG with the given rows of packed pixels, without an encoder."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


# ── images ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "webp"])
def test_lossless_rgb_comes_back_exactly(tmp_path: Path, ending: str) -> None:
    image = random_image(RNG)
    path = tmp_path / f"x.{ending}"
    Image.fromarray(image).save(path, **({"lossless": True} if ending == "webp" else {}))
    np.testing.assert_array_equal(read_image(path), image)


def test_gray_becomes_three_equal_channels(tmp_path: Path) -> None:
    gray = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
    image = read_image(save_gray(tmp_path / "x.png", gray))
    np.testing.assert_array_equal(image, np.stack([gray] * 3, axis=2))


def test_palette_shows_its_colors(tmp_path: Path) -> None:
    ids = random_ids(RNG, list(range(256)))
    path = save_palette(tmp_path / "x.png", ids)
    np.testing.assert_array_equal(read_image(path), np.asarray(Image.open(path).convert("RGB")))


def test_alpha_is_dropped_not_blended(tmp_path: Path) -> None:
    rgba = RNG.integers(0, 256, (5, 7, 4), dtype=np.uint8)
    rgba[..., 3] = 0
    Image.fromarray(rgba).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), rgba[..., :3])


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_are_scaled_to_8(tmp_path: Path, channels: int) -> None:
    wide = RNG.integers(0, 65536, (5, 7, channels), dtype=np.uint16)
    path = tmp_path / "x.png"
    assert cv2.imwrite(str(path), wide)
    expected = wide[..., ::-1] / 257.0
    np.testing.assert_allclose(read_image(path), np.broadcast_to(expected, (5, 7, 3)), atol=1.0)


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied_and_known_from_the_header(
    tmp_path: Path, orientation: int, ending: str
) -> None:
    image = np.zeros((16, 32, 3), dtype=np.uint8)
    image[:8, :8] = (255, 0, 0)
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"x.{ending}"
    Image.fromarray(image).save(
        path,
        exif=exif,
        **({"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(ending, {})),
    )
    # The meaning of each orientation, from the table in the EXIF standard.
    turned = {
        1: image,
        2: image[:, ::-1],
        3: image[::-1, ::-1],
        4: image[::-1],
        5: image.transpose(1, 0, 2),
        6: np.rot90(image, -1),
        7: np.rot90(image, 2).transpose(1, 0, 2),
        8: np.rot90(image),
    }[orientation]
    read = read_image(path)
    assert image_size(path) == read.shape[:2] == turned.shape[:2]
    np.testing.assert_allclose(read.astype(int), turned.astype(int), atol=6)


def test_cmyk_jpeg_is_converted(tmp_path: Path) -> None:
    cmyk = np.zeros((8, 8, 4), dtype=np.uint8)
    cmyk[..., 1:3] = 255  # magenta and yellow ink make red
    Image.fromarray(cmyk, "CMYK").save(tmp_path / "x.jpg", quality=100)
    red, green, blue = read_image(tmp_path / "x.jpg").reshape(-1, 3).mean(axis=0)
    assert red > 200
    assert max(green, blue) < 80


# ── damage ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "bmp", "tif"])
@pytest.mark.parametrize("keep", [0.05, 0.5, 0.95])
def test_truncated_images_are_refused(
    tmp_path: Path, ending: str, keep: float, capfd: pytest.CaptureFixture[str]
) -> None:
    path = truncate(save_rgb(tmp_path / f"x.{ending}", random_image(RNG, (40, 60))), keep)
    with pytest.raises(InputError) as error:
        read_image(path)
    one_line(error, path)
    assert capfd.readouterr().err == ""


def test_truncated_jpeg_with_a_whole_thumbnail_is_refused(tmp_path: Path) -> None:
    thumbnail = io.BytesIO()
    Image.fromarray(random_image(RNG)).save(thumbnail, "JPEG")
    segment = b"Exif\0\0" + thumbnail.getvalue()
    path = save_rgb(tmp_path / "x.jpg", random_image(RNG, (40, 60)))
    data = path.read_bytes()
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
    path.write_bytes(data)
    assert read_image(path).shape == (40, 60, 3)
    path.write_bytes(data[:-20])
    with pytest.raises(InputError, match="truncated"):
        read_image(path)


def test_flipped_bit_in_a_png_is_noticed(tmp_path: Path) -> None:
    path = save_rgb(tmp_path / "x.png", random_image(RNG, (40, 60)))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    for read in (read_image, read_label):
        with pytest.raises(InputError, match="damaged"):
            read(path)


@pytest.mark.parametrize("read", [read_image, read_label, image_size, check_ending])
@pytest.mark.parametrize(
    ("content", "said"), [(None, "x.png"), (b"", "x.png"), (b"\x89PNG\r\n\x1a\n", "x.png")]
)
def test_missing_empty_and_headless_files(tmp_path: Path, read, content, said) -> None:
    path = tmp_path / "x.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said) as error:
        read(path)
    one_line(error, path)


@pytest.mark.parametrize("read", [read_image, read_label, image_size])
def test_text_is_no_image(tmp_path: Path, read) -> None:
    path = tmp_path / "x.png"
    path.write_text("<html>404 not found</html>")
    with pytest.raises(InputError) as error:
        read(path)
    one_line(error, path)


def test_folder_instead_of_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_ending_is_judged_without_decoding(tmp_path: Path, ending: str) -> None:
    path = save_rgb(tmp_path / f"x.{ending}", random_image(RNG, (80, 120)))
    check_ending(path)
    path.write_bytes(path.read_bytes() + bytes(10_000))  # unusual but legal
    check_ending(path)
    truncate(path, 0.3)
    with pytest.raises(InputError, match="truncated"):
        check_ending(path)


# ── label maps ──────────────────────────────────────────────────────────────


@given(ids=st.lists(st.integers(0, 255), min_size=12, max_size=12))
def test_palette_gray_and_rgb_copies_give_the_same_ids(tmp_path_factory: pytest.TempPathFactory, ids) -> None:
    folder = tmp_path_factory.mktemp("labels")
    array = np.array(ids, dtype=np.uint8).reshape(3, 4)
    paths = [
        save_palette(folder / "palette.png", array),
        save_gray(folder / "gray.png", array),
        save_rgb(folder / "rgb.png", np.stack([array] * 3, axis=2)),
        save_gray(folder / "gray.tif", array),
        write_png(folder / "own.png", array),
        write_png(folder / "own_palette.png", array, palette=[(1, 2, 3), (200, 100, 50)]),
    ]
    for path in paths:
        read = read_label(path)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("kind", [0, 3])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_ids_of_few_bits_are_not_stretched(tmp_path: Path, depth: int, kind: int) -> None:
    if kind == 3:
        ids = np.arange(2**depth, dtype=np.uint8).reshape(1, -1)
        image = Image.fromarray(ids)
        image.putpalette([i * 5 % 256 for i in range(768)])
        image.save(tmp_path / "x.png", bits=depth)
    else:
        per_byte = 8 // depth
        values = list(range(2**depth))
        packed = bytearray(b"\0")  # the row's filter type: none
        for start in range(0, len(values), per_byte):
            byte = 0
            for value in (values[start : start + per_byte] + [0] * per_byte)[:per_byte]:
                byte = byte << depth | value
            packed.append(byte)
        raw_png(tmp_path / "x.png", 2**depth, 1, depth, 0, bytes(packed))
    assert read_label(tmp_path / "x.png").tolist() == [list(range(2**depth))]


def test_16_bit_ids_keep_their_value(tmp_path: Path) -> None:
    ids = np.array([[0, 255, 256, 65535]], dtype=np.uint16)
    assert cv2.imwrite(str(tmp_path / "x.png"), ids)
    read = read_label(tmp_path / "x.png")
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, ids)


def test_synthia_keeps_the_class_in_the_first_channel(tmp_path: Path) -> None:
    ids = random_ids(RNG, list(range(23)))
    path = save_synthia_label(tmp_path / "x.png", ids)
    np.testing.assert_array_equal(read_label(path), ids)


def test_synthia_channel_order_in_a_file_written_by_hand(tmp_path: Path) -> None:
    pixel = struct.pack(">HHH", 17, 4711, 3)
    path = raw_png(tmp_path / "x.png", 1, 1, 16, 2, b"\0" + pixel)
    assert read_label(path).tolist() == [[17]]


def test_labels_ignore_exif_rotation(tmp_path: Path) -> None:
    ids = random_ids(RNG, list(range(19)))
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(ids).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_label(tmp_path / "x.png"), ids)


def test_gray_alpha_gives_gray(tmp_path: Path) -> None:
    array = RNG.integers(0, 256, (3, 4, 2), dtype=np.uint8)
    Image.fromarray(array, "LA").save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_label(tmp_path / "x.png"), array[..., 0])


def test_lossy_labels_are_refused(tmp_path: Path) -> None:
    ids = random_ids(RNG, [0, 1, 2])
    for ending in ("jpg", "webp"):
        path = tmp_path / f"x.{ending}"
        Image.fromarray(ids).save(path)
        with pytest.raises(InputError, match="exact ids"):
            read_label(path)


def test_color_coded_labels_need_a_color_table(tmp_path: Path) -> None:
    path = save_rgb(tmp_path / "x.png", np.array([[[255, 0, 0], [0, 0, 255], [0, 0, 0]]], dtype=np.uint8))
    with pytest.raises(InputError, match="color-coded") as error:
        read_label(path)
    assert "color_coded = true" in one_line(error, path)
    colors = {(255, 0, 0): 4, (0, 0, 255): 1, (0, 0, 0): 255}
    assert read_label(path, colors).tolist() == [[4, 1, 255]]
    with pytest.raises(InputError, match=r"color \(0, 0, 0\) \(1 pixels\)"):
        read_label(path, {(255, 0, 0): 4, (0, 0, 255): 1})


def test_float_labels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 2), dtype=np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(InputError, match="32-bit floating-point numbers"):
        read_label(tmp_path / "x.tif")


# ── writing ─────────────────────────────────────────────────────────────────


def test_written_images_are_read_by_others(tmp_path: Path) -> None:
    image = random_image(RNG)
    write_png(tmp_path / "new" / "x.png", image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "x.png")), image)
    ids = random_ids(RNG, [0, 1, 255])
    write_png(tmp_path / "y.png", ids, palette=[(9, 8, 7), (100, 50, 0)])
    shown = np.asarray(Image.open(tmp_path / "y.png").convert("RGB"))
    expected = np.array([(9, 8, 7), (100, 50, 0)] + [(0, 0, 0)] * 254)[ids]
    np.testing.assert_array_equal(shown, expected)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_image_names() -> None:
    assert is_image_name("a.PNG")
    assert is_image_name("b.jpeg")
    assert not is_image_name(".hidden.png")
    assert not is_image_name("c.json")
