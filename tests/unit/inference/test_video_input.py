from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from contextlib import ExitStack, closing
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from iccld.data.inputs import InputVideo, find_inputs
from iccld.errors import InputError
from iccld.inference import video_source
from iccld.inference.video_source import Container, open_video
from iccld.inference.video_writer import open_sound, writing_video

MakeClip = Callable[..., Path]


def pictures(count: int = 12, size: tuple[int, int] = (48, 64)) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8))


def read(path: Path | str) -> tuple[list[np.ndarray], Container]:
    with closing(open_video(InputVideo(str(path), "clip"))) as source:
        assert isinstance(source, Container)
        return [frame.image for frame in source.frames()], source


@pytest.fixture
def clip(make_clip: MakeClip, tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mp4", pictures())


# -- names and references ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["concat:a.mp4|clip.mp4", "http:a.mp4", "data:video.mp4", "pipe:0.mp4", "file:clip.mp4", "crypto:clip.mp4",
     "subfile,,start,0,end,9,,:clip.mp4", "async:cache:clip.mp4", "%03d.mp4", "-i.mp4", "a\nb.mp4", "a'b c\\.mp4"],
)  # fmt: skip
def test_a_file_is_itself_whatever_its_name(
    clip: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.move(clip, folder / name)
    monkeypatch.chdir(folder)  # so that the name is the whole path
    assert len(read(name)[0]) == 12
    (found,) = find_inputs(["."])
    assert isinstance(found, InputVideo)
    assert found.is_file
    assert len(read(found.source)[0]) == 12


def test_names_that_look_like_protocols_are_no_matter_for_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with writing_video("concat:out.mp4", (48, 64), time_base=Fraction(1, 25), rate=Fraction(25)) as writer:
        for index, picture in enumerate(pictures()):
            writer.add(picture, index, 1)
    assert os.listdir() == ["concat:out.mp4"]
    assert len(read("concat:out.mp4")[0]) == 12


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{clip}'\n",
        "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011' type='static' "
        "mediaPresentationDuration='PT1S'><Period><AdaptationSet mimeType='video/mp4'><Representation id='1' "
        "bandwidth='1' width='64' height='48'><BaseURL>{clip}</BaseURL>"
        "</Representation></AdaptationSet></Period></MPD>",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "[playlist]\nFile1={clip}\nNumberOfEntries=1\n",
        "RIFF, but a text\n",
    ],
    ids=["hls", "hls over http", "concat", "dash", "sdp", "pls", "text"],
)
def test_containers_that_refer_to_other_files_are_refused(clip: Path, tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.mp4"
    path.write_text(content.format(clip=clip))
    with pytest.raises(InputError, match=r"x\.mp4: cannot be opened as a video") as error:
        read(path)
    assert "\n" not in str(error.value)


def test_quicktime_references_to_other_files_are_not_followed(clip: Path, tmp_path: Path) -> None:
    data = clip.read_bytes()
    # The reference "this file" (flag 1) becomes one to the clip by its path.
    place = data.index(b"url \0\0\0\1")
    changed = data[:place] + b"url \0\0\0\0" + data[place + 8 :]
    other = tmp_path / "x.mov"
    other.write_bytes(changed.replace(b"mdat", b"free", 1))
    try:
        images, source = read(other)
    except InputError:
        return
    assert images or source.problem


@pytest.mark.parametrize("kind", ["/dev/zero", "fifo", "folder"])
def test_a_video_that_is_no_regular_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.mp4"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(kind)
    with pytest.raises(InputError, match=r"a pipe|a folder|a device"):
        read(path)
    with (
        pytest.raises(InputError, match=r"a pipe|a folder|a device"),
        av.open(os.devnull, "w", format="mp4") as out,
    ):
        open_sound(path, out, ExitStack())


@pytest.mark.parametrize(
    "address", ["file:///etc/passwd", "concat://a|b", "ftp://host/a.mp4", "gopher://h/", "xx://y"]
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(InputError, match="is no address of a stream"):
        read(address)


# -- damage ------------------------------------------------------------------------------------------


@pytest.fixture
def independent(tmp_path: Path) -> Path:
    """A video in which no frame needs another one."""
    path = tmp_path / "independent.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"g": "1", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for picture in pictures():
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("damage", ["emptied", "flipped", "long"])
def test_a_corrupt_packet_costs_its_frame_alone_and_is_counted(independent: Path, damage: str) -> None:
    whole, source = read(independent)
    assert source.problem is None
    data = bytearray(independent.read_bytes())
    with av.open(str(independent)) as file:
        victim = [bytes(packet) for packet in file.demux(video=0) if packet.size][7]
    place = bytes(data).index(victim)
    if damage == "emptied":
        data[place : place + len(victim)] = bytes(len(victim))
    elif damage == "flipped":
        for at in range(place + 20, place + len(victim), 7):
            data[at] ^= 0x5A
    else:
        data[place : place + 4] = b"\xff\xff\xff\xff"
    independent.write_bytes(data)
    images, source = read(independent)
    assert len(images) == 11
    np.testing.assert_array_equal(images, whole[:7] + whole[8:])
    assert source.num_damaged == 1
    assert source.problem == f"{independent}: 1 frame could not be decoded and is left out"


def test_frames_beyond_the_limit_are_refused_at_the_start_and_on_the_way(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert video_source.MOST_PIXELS > 7680 * 4320
    monkeypatch.setattr(video_source, "MOST_PIXELS", 64 * 48 - 1)
    with pytest.raises(
        InputError, match=r"clip\.mp4: has frames of 64×48 pixels, more than can be read safely"
    ):
        read(clip)


def boxes(data: bytes, *names: bytes) -> int:
    """The place of the content of a box of MP4, found from the outside in."""
    place = 0
    for name in names:
        place = data.index(name, place) + 4
    return place


@pytest.mark.parametrize("change", ["fast", "still", "slow", "years", "huge", "rate"])
def test_absurd_headers_end_in_an_answer_or_a_line(clip: Path, tmp_path: Path, change: str) -> None:
    data = bytearray(clip.read_bytes())
    stts = boxes(data, b"mdia", b"stts")
    header = boxes(data, b"mdia", b"mdhd")
    if change == "fast":  # four billion units a second
        struct.pack_into(">I", data, header + 12, 0xFFFFFFFF)
    elif change == "rate":
        struct.pack_into(">I", data, header + 12, 0)
    elif change in ("still", "slow", "years"):
        struct.pack_into(">I", data, stts + 12, {"still": 0, "slow": 1 << 20, "years": 0x7FFFFFFF}[change])
    else:
        place = boxes(data, b"stsd", b"avc1")
        struct.pack_into(">HH", data, place + 24, 60_000, 60_000)
    path = tmp_path / "x.mp4"
    path.write_bytes(data)
    out = tmp_path / "out.mp4"
    try:
        with closing(open_video(InputVideo(str(path), "clip"))) as source:
            rate, frames = source.rate, list(source.frames())
            with writing_video(out, (48, 64), time_base=source.time_base, rate=rate) as writer:
                for frame in frames:
                    writer.add(frame.image, frame.pts, frame.duration)
    except InputError as error:
        assert str(path) in str(error) or str(out) in str(error)  # noqa: PT017
        return
    assert len(frames) >= 1  # the list of edits may show fewer than there are
    assert all(one.pts < two.pts for one, two in pairwise(frames))
    assert len(read(out)[0]) == len(frames)


def test_a_size_that_changes_on_the_way_keeps_the_first(make_clip: MakeClip, tmp_path: Path) -> None:
    first = make_clip(tmp_path / "a.ts", pictures(6)).read_bytes()
    second = make_clip(tmp_path / "b.ts", pictures(6, (96, 128))).read_bytes()
    (tmp_path / "c.ts").write_bytes(first + second)
    images, _ = read(tmp_path / "c.ts")
    assert len(images) >= 11
    assert {image.shape for image in images} == {(48, 64, 3)}
