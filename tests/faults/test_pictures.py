"""Pictures, folders and videos made to exhaust memory or time: each ends in a right answer or one line.

Every trial runs in a process of its own with 4 GB of addresses more than an idle one takes, and 10 s.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from trials import Launcher

SECONDS = 10
MEMORY = 4 << 30

_READ = """
import json, resource, sys
import cv2, numpy, PIL.Image
from iccld.data import image_files
from iccld.errors import InputError
import warnings
warnings.simplefilter("error")
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
limit = used + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
answers = []
for name in ("image_size", "read_image", "read_label"):
    try:
        answer = getattr(image_files, name)(sys.argv[2])
        answers.append(list(answer.shape) if hasattr(answer, "shape") else list(answer))
    except InputError as error:
        answers.append(str(error))
print(json.dumps(answers))
"""


def read(path: Path) -> list[str | list[int]]:
    """What ``image_size``, ``read_image`` and ``read_label`` say of a picture, in a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-c", _READ, str(MEMORY), str(path)],
        capture_output=True,
        text=True,
        timeout=6 * SECONDS,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert not ended.stderr, ended.stderr[-2000:]
    answers: list[str | list[int]] = json.loads(ended.stdout)
    for answer in answers:
        if isinstance(answer, str):
            assert answer.startswith(str(path))
            assert "\n" not in answer
    return answers


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def zeros(size: int) -> bytes:
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    return (
        b"".join(packer.compress(block) for _ in range(size >> 20))
        + packer.compress(bytes(size & 0xFFFFF))
        + packer.flush()
    )


def png(width: int, height: int, bits: int = 8, kind: int = 0, *extra: bytes) -> bytes:
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    body = zeros(height * (1 + (width * samples * bits + 7) // 8))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


# ── pictures ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("side", [20_000, 30_000])
def test_pictures_beyond_the_limit_are_refused_whatever_they_unpack_to(tmp_path: Path, side: int) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(png(side, side))
    assert path.stat().st_size < 1_000_000
    for answer in read(path):
        assert isinstance(answer, str)
        assert "pixels, far more than can be read safely" in answer


@pytest.mark.parametrize(("bits", "kind"), [(8, 0), (16, 6), (1, 0)])
def test_the_largest_pictures_that_are_read_fit_into_the_memory(tmp_path: Path, bits: int, kind: int) -> None:
    path = tmp_path / "x.png"
    side = 13_000 if kind == 0 else 8_000  # of zeros in a second or two
    path.write_bytes(png(side, side, bits, kind))
    size, image, label = read(path)
    assert size == [side, side]
    assert image == [side, side, 3]
    assert label == [side, side]


@pytest.mark.parametrize("form", ["WEBP", "BMP", "TIFF", "JPEG", "GIF", "JPEG2000", "AVIF"])
def test_bombs_of_other_formats(tmp_path: Path, form: str) -> None:
    path = tmp_path / "x.png"
    side = 16_000 if form in ("WEBP", "AVIF", "JPEG2000") else 20_000
    options = {"WEBP": {"lossless": True, "method": 0}, "TIFF": {"compression": "tiff_adobe_deflate"}}.get(
        form, {}
    )
    if form == "BMP":
        path.write_bytes(
            b"BM" + struct.pack("<IHHIIiiHHIIiiII", 1 << 20, 0, 0, 62, 40, side, side, 1, 1, 1, 0, 0, 0, 0, 0)
        )
        with path.open("ab") as file:
            file.truncate(side * side // 8)
    elif form in ("AVIF", "JPEG2000"):
        Image.new("L", (64, 64)).save(path, form)
    else:
        Image.new("L" if form != "WEBP" else "RGB", (side, side)).save(path, form, **options)
    for answer in read(path):
        assert isinstance(answer, str)
        assert "pixels, far more" in answer or "are read, so save it" in answer


def test_a_sparse_file_of_ten_terabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(png(8, 8))
    os.truncate(path, 10 << 40 if os.statvfs(tmp_path).f_bsize else 0)
    _, image, label = read(path)
    assert "larger than" in str(image)
    assert "larger than" in str(label)


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP"])
def test_chunks_that_unpack_to_gigabytes(tmp_path: Path, name: bytes) -> None:
    content = {b"zTXt": b"a\0\0", b"iCCP": b"a\0\0", b"iTXt": b"a\0\1\0\0\0"}[name] + zeros(1 << 30)
    path = tmp_path / "x.png"
    path.write_bytes(png(64, 64, 8, 0, chunk(name, content)))
    assert read(path) == [[64, 64], [64, 64, 3], [64, 64]]


def test_a_jpeg_of_thousands_of_scans(tmp_path: Path) -> None:
    data = cv2.imencode(".jpg", np.zeros((8000, 8000), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[
        1
    ].tobytes()
    path = tmp_path / "x.jpg"
    scan = data[data.rindex(b"\xff\xda") : -2]
    path.write_bytes(data[:-2] + scan * 3000 + b"\xff\xd9")
    assert "scans" in str(read(path)[1])


# ── commands ────────────────────────────────────────────────────────────────


def limited(iccld: Launcher, *words: str | Path, cwd: Path, memory: int = MEMORY) -> tuple[int, str]:
    """Runs a command with little memory and returns its exit code and what it printed."""
    idle = int(Path(f"/proc/{iccld._server.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    ended = iccld(*words, cwd=cwd, limit=4 * SECONDS, address_space=idle + memory)
    assert not ended.timed_out, ended.text[-1000:]
    assert "Traceback" not in ended.text
    assert len(ended.error_lines) <= 1
    return ended.code, ended.text


@pytest.fixture
def folder(tmp_path: Path, tiny_data: Path) -> Path:
    """A folder of one good picture, to which bad ones are added."""
    (tmp_path / "in").mkdir()
    shutil.copy(tiny_data / "target" / "val" / "images" / "0.png", tmp_path / "in" / "good.png")
    return tmp_path / "in"


def test_a_picture_that_fits_and_whose_answer_does_not_costs_itself_alone(
    iccld: Launcher, model: Path, folder: Path, tmp_path: Path
) -> None:
    (folder / "bomb.png").write_bytes(png(12_000, 12_000))
    code, text = limited(iccld, "predict", model, folder, "--out", tmp_path / "out", cwd=tmp_path)
    assert code == 1
    assert "bomb.png" in text
    assert "memory" in text
    assert (tmp_path / "out" / "labels" / "good.png").is_file()


@pytest.mark.parametrize("kind", ["fifo", "socket", "/dev/zero", "/dev/urandom", "folder", "loop"])
@pytest.mark.parametrize("ending", ["png", "mp4"])
def test_what_is_no_file_costs_itself_alone(
    iccld: Launcher, model: Path, folder: Path, tmp_path: Path, kind: str, ending: str
) -> None:
    path = folder / f"bad.{ending}"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "loop" else kind)
    code, text = limited(
        iccld, "predict", model, folder, "--follow-outside", "--out", tmp_path / "out", cwd=tmp_path
    )
    assert code == (0 if kind == "folder" else 1)
    assert kind == "folder" or f"bad.{ending}" in text
    assert (tmp_path / "out" / "labels" / "good.png").is_file()
    if not kind.startswith("/dev"):
        return
    code, text = limited(iccld, "predict", model, folder, "--out", tmp_path / "out2", cwd=tmp_path)
    assert code == 2
    assert "leads out of the folder" in text


GLOBS = ["*a*a*a*a*a*a*a*a*c.png", "**/" * 14 + "*.png", "{*a,*b}" * 7 + "c.png", "*?" * 60 + "x.png"]


@pytest.mark.parametrize("pattern", GLOBS)
def test_globs_take_no_time(iccld: Launcher, model: Path, folder: Path, tmp_path: Path, pattern: str) -> None:
    for number in range(300):
        deep = folder / "/".join("abcdefgh"[: number % 9]) if number % 9 else folder
        deep.mkdir(parents=True, exist_ok=True)
        (deep / f"{'a' * 200}{number}.png").write_bytes(b"x")
    (folder / "dataset.toml").write_text(f"images = {json.dumps(pattern)}\n")
    assert limited(iccld, "data", "check", "folder", folder, cwd=tmp_path)[0] in (0, 1, 2)
    code, _ = limited(iccld, "predict", model, str(folder / pattern), "--out", tmp_path / "out", cwd=tmp_path)
    assert code in (0, 1, 2)


@pytest.mark.parametrize(
    "text", ['images = "/**/*.png"', 'images = "../../../**/*.png"', 'images = "*.png"\nlist = "/etc/passwd"']
)
def test_a_description_does_not_reach_out_of_its_folder(
    iccld: Launcher, folder: Path, tmp_path: Path, text: str
) -> None:
    (folder / "dataset.toml").write_text(text + "\n")
    code, said = limited(iccld, "data", "check", "folder", folder, cwd=tmp_path)
    assert code == 2
    assert "leads out of the folder" in said
    assert "root:" not in said


def test_links_that_multiply(iccld: Launcher, model: Path, folder: Path, tmp_path: Path) -> None:
    for level in range(30):
        (folder / f"{level}").mkdir()
        for name in ("a", "b"):
            (folder / f"{level}" / name).symlink_to(folder / f"{level + 1}")
    (folder / "30").mkdir()
    code, said = limited(iccld, "predict", model, folder, "--out", tmp_path / "out", cwd=tmp_path)
    assert code == 2
    assert "links lead to this folder" in said


# ── videos ──────────────────────────────────────────────────────────────────


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"g": "1", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        rng = np.random.default_rng(0)
        for _ in range(20):
            file.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8), "rgb24")
                )
            )
        file.mux(stream.encode(None))
    return path


def test_corrupt_packets_are_counted(iccld: Launcher, model: Path, clip: Path, tmp_path: Path) -> None:
    with av.open(str(clip)) as file:
        packets = [bytes(packet) for packet in file.demux(video=0) if packet.size]
    data = bytearray(clip.read_bytes())
    for number in (3, 9, 10):
        place = bytes(data).index(packets[number])
        data[place : place + len(packets[number])] = bytes(len(packets[number]))
    clip.write_bytes(data)
    words = (
        "predict",
        model,
        clip,
        "--write",
        "labels",
        "--out",
        tmp_path / "out",
        "--json",
        tmp_path / "r.json",
    )
    code, text = limited(iccld, *words, cwd=tmp_path)
    assert code == 1
    assert "3 frames could not be decoded and are left out" in text
    (facts,) = json.loads((tmp_path / "r.json").read_text())["videos"]
    assert (facts["frames"], facts["damaged"]) == (17, 3)
    assert len(list((tmp_path / "out" / "labels" / "clip").iterdir())) == 17


@pytest.mark.parametrize("name", ["concat:a|b.mp4", "http:x.mp4", "pipe:0.mp4", "data:x.mp4", "-.mp4"])
def test_names_of_videos_are_names(
    iccld: Launcher, model: Path, clip: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(clip, tmp_path / "in" / name)
    code, text = limited(
        iccld, "predict", model, ".", "--max-frames", "2", "--out", tmp_path / "out", cwd=tmp_path / "in"
    )
    assert code == 0, text


@pytest.mark.parametrize("side", [20_000, 60_000])
def test_frames_that_are_too_large(
    iccld: Launcher, model: Path, clip: Path, tmp_path: Path, side: int
) -> None:
    path = tmp_path / "huge.avi"
    with av.open(str(path), "w") as file:  # nothing is said of the size in the packets
        stream = file.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "bgr24"
        file.mux(stream.encode(av.VideoFrame(96, 64, "bgr24")))
    data = bytearray(path.read_bytes())
    place = data.index(b"strf") + 12
    struct.pack_into("<ii", data, place, side, side)
    path.write_bytes(data)
    code, text = limited(iccld, "predict", model, path, "--out", tmp_path / "out", cwd=tmp_path)
    assert code == 2
    assert "huge.avi" in text
