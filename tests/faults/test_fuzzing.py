"""Damaged files of every kind: each command gives a right answer or one line, in bounded time and memory."""

from __future__ import annotations

import json
import random
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trials import Ended, Launcher

Words = Callable[..., list[str]]

SECONDS, MEMORY = 10, 4 * 2**30
TRIALS = {
    "image": 80,
    "mask": 50,
    "toml": 40,
    "config": 40,
    "weights": 20,
    "checkpoint": 20,
    "video": 30,
    "plan": 20,
}
"""Mutated files by kind, 300 in all."""


def mutate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Truncates a file, flips bits, overwrites or repeats a part, or splices it with another of its kind."""
    kind = rng.choice(["cut", "flip", "zero", "repeat", "splice", "insert", "head"])
    size = max(1, len(data))
    at, length = rng.randrange(size), rng.randint(1, max(1, size // 4))
    if kind == "cut":
        return data[:at]
    if kind == "flip":
        changed = bytearray(data)
        for _ in range(rng.choice([1, 4, 32])):
            changed[rng.randrange(size)] ^= 1 << rng.randrange(8)
        return bytes(changed)
    if kind == "zero":
        return data[:at] + bytes(length) + data[at + length :]
    if kind == "repeat":
        return data[:at] + data[at : at + length] * rng.choice([2, 50]) + data[at:]
    if kind == "splice":
        return data[:at] + other[rng.randrange(max(1, len(other))) :]
    if kind == "head":  # the first bytes, where sizes are
        changed = bytearray(data)
        for _ in range(4):
            changed[rng.randrange(min(64, size))] = rng.randrange(256)
        return bytes(changed)
    return data[:at] + rng.randbytes(length) + data[at:]


_TOKENS = [
    "[",
    "]",
    "{",
    "}",
    '"',
    "=",
    "\n",
    ",",
    "-1",
    "1e999",
    "nan",
    "null",
    "true",
    "9" * 400,
    "\\ud800",
    "\x00",
    "é",
]


def mutate_text(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Replaces words and numbers of a text, or mutates it as bytes."""
    if rng.random() < 0.3:
        return mutate(rng, data, other)
    text = data.decode()
    for _ in range(rng.choice([1, 2, 6])):
        at = rng.randrange(len(text))
        end = at + rng.choice([0, 1, 3, 8])
        text = text[:at] + rng.choice(_TOKENS) * rng.choice([1, 1, 30]) + text[end:]
    return text.encode("utf-8", "surrogatepass")


def assert_bounded(ended: Ended, what: object) -> None:
    """A right answer or one line; no traceback, no hang, no more memory than allowed."""
    assert not ended.timed_out, f"{what}: hung"
    assert ended.code in (0, 1, 2), f"{what}: ended with {ended.code}: {ended.text[-1500:]}"
    assert "Traceback" not in ended.text, f"{what}: {ended.text[-1500:]}"
    assert "Unrecognized options" not in ended.text, ended.text
    assert "fault of iccld" not in ended.text, f"{what}: {ended.text[-1500:]}"
    assert ended.peak < MEMORY, f"{what}: {ended.peak >> 20} MiB"
    assert ended.code == 0 or ended.text.strip(), f"{what}: nothing was said"
    assert len(ended.error_lines) <= 1, f"{what}: {ended.text[-1500:]}"


@pytest.fixture
def check(iccld: Launcher, tmp_path: Path) -> Callable[..., Ended]:
    def run(*argv: str | Path, what: object) -> Ended:
        ended = iccld(*argv, cwd=tmp_path, limit=4 * SECONDS)  # a loaded machine is slower
        assert_bounded(ended, what)
        return ended

    return run


def _pictures(folder: Path, tiny_data: Path) -> list[Path]:
    """The same picture in every format that Pillow writes, each with its own features."""
    folder.mkdir()
    array = np.asarray(Image.open(tiny_data / "target" / "val" / "images" / "0.png"))
    image = Image.fromarray(array)
    made = []
    for name, options in (
        ("a.png", {}), ("b.jpg", {"quality": 90}), ("c.webp", {}), ("d.bmp", {}), ("j.tif", {}),
        ("f.gif", {}), ("g.png", {"bits": 8}), ("h.jpg", {"progressive": True}), ("i.ppm", {}),
        ("e.tif", {"compression": "tiff_lzw"}),
    ):  # fmt: skip
        picture = image.convert("P") if name in ("f.gif", "g.png") else image
        exif = picture.getexif()
        exif[0x0112] = 6
        picture.save(folder / name, **({"exif": exif} if name.startswith(("b", "h")) else {}), **options)
        made.append(folder / name)
    return made


def test_images(tiny_data: Path, model: Path, check: Callable[..., Ended], tmp_path: Path) -> None:
    """Eight damaged pictures at a time: those that cannot be read are named, the others are predicted."""
    rng = random.Random("image")
    pictures = _pictures(tmp_path / "whole", tiny_data)
    for batch in range(TRIALS["image"] // 8):
        folder = tmp_path / f"batch{batch}"
        folder.mkdir()
        for index in range(8):
            path, other = rng.choice(pictures), rng.choice(pictures)
            (folder / f"{index}{path.suffix}").write_bytes(mutate(rng, path.read_bytes(), other.read_bytes()))
        shutil.copy(pictures[0], folder / "whole.png")
        out = tmp_path / f"out{batch}"
        ended = check("predict", str(model), str(folder), "--out", str(out), what=folder)
        assert list(out.rglob("*whole*.png")), ended.text


def test_masks(tiny_data: Path, check: Callable[..., Ended], tmp_path: Path) -> None:
    rng = random.Random("mask")
    for trial in range(TRIALS["mask"] // 2):
        folder = tmp_path / f"{trial}"
        shutil.copytree(tiny_data / "target" / "train", folder)
        for name in ("0", "1"):
            path = folder / "labels" / f"{name}.png"
            path.write_bytes(mutate(rng, path.read_bytes(), (folder / "images" / "2.png").read_bytes()))
        if trial % 2:
            check("data", "check", "folder", folder, what=folder)
        else:
            check("data", "init", folder, what=folder)


def test_descriptions(tiny_data: Path, check: Callable[..., Ended], tmp_path: Path) -> None:
    rng = random.Random("toml")
    whole = tmp_path / "whole"
    shutil.copytree(tiny_data / "target" / "train", whole)
    check("data", "init", whole, what=whole)
    text = (whole / "dataset.toml").read_bytes()
    for trial in range(TRIALS["toml"]):
        changed = mutate_text(rng, text, text)
        (whole / "dataset.toml").write_bytes(changed)
        check("data", "check", "folder", whole, what=(trial, changed[:300]))


def test_model_configurations(
    tiny_data: Path, model: Path, check: Callable[..., Ended], tmp_path: Path
) -> None:
    rng = random.Random("config")
    copy = tmp_path / "model"
    copy.mkdir()
    shutil.copy(model / "model.safetensors", copy)
    text = (model / "config.json").read_bytes()
    image = tiny_data / "target" / "val" / "images" / "0.png"
    for trial in range(TRIALS["config"]):
        if trial % 3:
            changed = mutate_text(rng, text, text)
        else:  # still JSON: one value becomes another
            changed = json.dumps(_with_other_value(rng, json.loads(text))).encode("utf-8", "surrogatepass")
        (copy / "config.json").write_bytes(changed)
        check("predict", copy, image, "--out", tmp_path / f"p{trial}", what=(trial, changed[:2000]))


def _with_other_value(rng: random.Random, value: object) -> object:
    """Replaces one leaf of plain data, chosen at random."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        return value | {key: _with_other_value(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.9:
        index = rng.randrange(len(value))
        return [*value[:index], _with_other_value(rng, value[index]), *value[index + 1 :]]
    return rng.choice(
        [
            None,
            True,
            -1,
            0,
            10**6,
            10**9,
            10**30,
            0.5,
            float("nan"),
            float("inf"),
            "x",
            "",
            "auto:x/y",
            [],
            {},
            [[1]],
        ]
    )


@pytest.mark.parametrize("kind", ["weights", "checkpoint"])
def test_tensors(
    kind: str, tiny_data: Path, model: Path, train_words: Words, check: Callable[..., Ended], tmp_path: Path
) -> None:
    rng = random.Random(kind)
    image = tiny_data / "target" / "val" / "images" / "0.png"
    for trial in range(TRIALS[kind]):
        copy = tmp_path / f"run{trial}"
        shutil.copytree(model, copy)
        path = copy / "model.safetensors" if kind == "weights" else max((copy / "checkpoints").glob("step-*"))
        path.write_bytes(mutate(rng, path.read_bytes(), b"\xff" * 64))
        if kind == "weights":
            check("predict", copy, image, "--out", tmp_path / f"p{trial}", what=trial)
        else:
            (copy / "model.safetensors").unlink()
            check(*train_words(copy), what=trial)
        shutil.rmtree(copy)


def test_videos(
    model: Path, make_clip: Callable[..., Path], check: Callable[..., Ended], tmp_path: Path
) -> None:
    rng = random.Random("video")
    pictures = [np.full((64, 96, 3), 10 * i, np.uint8) for i in range(12)]
    clips = [
        make_clip(tmp_path / f"clip{suffix}", pictures, codec=codec)
        for suffix, codec in (
            (".mp4", "libx264"),
            (".mkv", "libx264"),
            (".avi", "mpeg4"),
            (".webm", "libvpx"),
        )
    ]
    for trial in range(TRIALS["video"]):
        clip = rng.choice(clips)
        path = tmp_path / f"{trial}{clip.suffix}"
        path.write_bytes(mutate(rng, clip.read_bytes(), rng.choice(clips).read_bytes()))
        check("predict", model, path, "--out", tmp_path / f"p{trial}", what=path)


PLAN = b"""
title = "Tiny"
seeds = [0, 1]
predictions = [[1, 1], [4, 8]]
[tasks.gone]
title = "Data that do not exist"
preset = "demo"
settings = { "data.target" = "camvid", "data.target_root" = "nowhere", steps = 4, "data.crop" = [32, 64] }
[variants.iccld]
title = "ICCLD"
method = "iccld"
settings = { "adaptation.mixing" = "classmix" }
[variants.minent]
method = "minent"
tasks = ["gone"]
"""


def test_plans(check: Callable[..., Ended], tmp_path: Path) -> None:
    rng = random.Random("plan")
    for _ in range(TRIALS["plan"]):
        path = tmp_path / "plan.toml"
        path.write_bytes(mutate_text(rng, PLAN, PLAN))
        words = ["bench", path, "--table", "--results", tmp_path / "b", "--work", tmp_path / "w"]
        check(*words, what=path.read_bytes()[:300])


def _png(width: int, height: int, *, chunks: bytes = b"") -> bytes:
    """A PNG of black pixels, compressed without its pixels ever being in memory."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(9)
    row = bytes(1 + 3 * width)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunks + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _text_chunk(size: int) -> bytes:
    packer = zlib.compressobj(9)
    body = (
        b"comment\0\0" + b"".join(packer.compress(bytes(2**20)) for _ in range(size >> 20)) + packer.flush()
    )
    return struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))


@pytest.mark.parametrize("name", ["pixels", "text", "sparse"])
def test_picture_bombs(
    name: str, tiny_data: Path, model: Path, check: Callable[..., Ended], tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    shutil.copy(tiny_data / "target" / "val" / "images" / "0.png", folder / "whole.png")
    bomb = folder / "bomb.png"
    if name == "pixels":
        bomb.write_bytes(_png(30_000, 30_000))
    elif name == "text":
        bomb.write_bytes(_png(64, 64, chunks=_text_chunk(2**30)))
    else:
        with open(bomb, "wb") as file:
            file.write(_png(64, 64))
            file.truncate(10 * 2**30)
    check("predict", model, folder, "--out", tmp_path / "p", what=name)
    assert list((tmp_path / "p").rglob("*whole*.png"))
    labels = tmp_path / "set" / "labels"
    labels.mkdir(parents=True)
    shutil.copytree(folder, tmp_path / "set" / "images")
    shutil.copy(bomb, labels / "bomb.png")
    check("data", "check", "folder", tmp_path / "set", what=name)
    check("data", "init", tmp_path / "set", what=name)


@pytest.mark.parametrize("name", ["brackets", "digits", "sparse", "strings"])
def test_text_bombs(
    name: str, tiny_data: Path, model: Path, check: Callable[..., Ended], tmp_path: Path
) -> None:
    """Files that are small to store and endless to read, wherever a configuration is read."""
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    body = {
        "brackets": b"[" * 100_000,
        "digits": b'{"format": ' + b"9" * 5_000 + b"}",
        "sparse": b"{",
        "strings": b'{"format": "' + b"x" * 50_000_000 + b'"}',
    }[name]
    image = tiny_data / "target" / "val" / "images" / "0.png"
    folder = tmp_path / "set"
    shutil.copytree(tiny_data / "target" / "train", folder)
    targets = {
        copy / "config.json": ("predict", copy, image, "--out", tmp_path / "p"),
        copy / "run.json": ("report", copy),
        copy / "report.json": ("report", copy),
        folder / "dataset.toml": ("data", "check", "folder", folder),
        tmp_path / "plan.toml": (
            "bench",
            tmp_path / "plan.toml",
            "--results",
            tmp_path / "b",
            "--work",
            tmp_path / "w",
        ),
    }
    for path, words in targets.items():
        before = path.read_bytes() if path.exists() else None
        with open(path, "wb") as file:
            file.write(b"x = " + body if path.suffix == ".toml" else body)
            if name == "sparse":
                file.truncate(10 * 2**30)
        ended = check(*words, what=path)
        assert ended.code == 2, (path, ended.text)
        path.unlink()
        if before is not None:
            path.write_bytes(before)


def test_safetensors_bombs(tiny_data: Path, model: Path, check: Callable[..., Ended], tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    image = tiny_data / "target" / "val" / "images" / "0.png"
    tensor = {"dtype": "F32", "shape": [2**20, 2**20], "data_offsets": [0, 2**42]}
    for header, size in (
        (b"{" * 1000, 2**62),
        (json.dumps({"a": tensor}).encode(), None),
        (json.dumps({"a": tensor | {"data_offsets": [-1, 4]}}).encode(), None),
        (b"[" * 100_000, None),
    ):
        (copy / "model.safetensors").write_bytes(struct.pack("<Q", size or len(header)) + header)
        assert check("predict", copy, image, "--out", tmp_path / "p", what=header[:50]).code == 2
