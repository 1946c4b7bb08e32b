"""Settings for every test: shape checks on, one thread, the same random examples each run."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import hypothesis
import jaxtyping
import numpy as np
import pytest
import torch

# No test has imported iccld yet: from here on shapes and types are checked at every call of the modules that annotate
# shapes. In the others mypy's check has to do: wrapping every call took a third of the suite's time.
# The numeric tower lets an int pass for a float, as mypy does.
_SOURCE = Path(__file__).parents[1] / "src"
_SHAPED = [
    ".".join(path.relative_to(_SOURCE).with_suffix("").parts)
    for path in sorted(_SOURCE.rglob("*.py"))
    if "\nfrom jaxtyping import" in path.read_text(encoding="utf-8")
]
jaxtyping.install_import_hook(_SHAPED, "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

os.environ["OMP_NUM_THREADS"] = "1"  # of commands that are told no number, too
torch.set_num_threads(1)
cv2.setNumThreads(0)
hypothesis.settings.register_profile("iccld", derandomize=True, deadline=None, max_examples=25)
hypothesis.settings.load_profile("iccld")


@pytest.fixture(scope="session")
def make_clip() -> Callable[..., Path]:
    """Writes a small video, and a sine tone with it if asked."""

    def make(
        path: Path,
        pictures: Sequence[np.ndarray],
        *,
        times: Sequence[int] | None = None,
        unit: Fraction = Fraction(1, 12800),
        codec: str = "libx264",
        sound: str | None = None,
        turned: int = 0,
    ) -> Path:
        height, width = pictures[0].shape[:2]
        with av.open(
            str(path), "w", options={"movie_timescale": "90000"} if path.suffix == ".mp4" else {}
        ) as file:
            video = file.add_stream(codec, rate=25)
            video.width, video.height = width, height
            video.pix_fmt = "yuv420p" if width % 2 == height % 2 == 0 else "yuv444p"
            video.time_base = video.codec_context.time_base = unit
            if turned:
                video.set_display_rotation(turned)
            audio = file.add_stream(sound, rate=48000, layout="mono") if sound else None
            for index, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(picture, "rgb24")
                frame.pts, frame.time_base = times[index] if times else index * int(1 / (25 * unit)), unit
                frame.duration = int(1 / (25 * unit))
                file.mux(video.encode(frame))
            file.mux(video.encode(None))
            if audio:
                wave = (
                    np.sin(np.arange(1920 * len(pictures)) * (440 * 2 * np.pi / 48000)).astype(np.float32) / 3
                )
                for start in range(0, len(wave), 960):
                    samples = wave[None, start : start + 960]
                    layout = audio.codec_context.format.name
                    if layout == "s16":
                        samples = (samples * 32767).astype(np.int16)
                    piece = av.AudioFrame.from_ndarray(samples, format=layout, layout="mono")
                    piece.sample_rate, piece.pts, piece.time_base = 48000, start, Fraction(1, 48000)
                    file.mux(audio.encode(piece))
                file.mux(audio.encode(None))
        return path

    return make


@pytest.fixture
def read_events() -> Callable[[Path], list[tuple[int, str, float]]]:
    """Reads a folder of event files as TensorBoard shows it: (step, name, value), sorted.

    A file is records of length, its checksum, event, its checksum. A session's start at step s drops what was there
    from s on.
    """
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    def read(folder: Path) -> list[tuple[int, str, float]]:
        shown: list[tuple[int, str, float]] = []
        for path in sorted(folder.glob("events.out.tfevents.*")):
            data, at = path.read_bytes(), 0
            while at < len(data):
                (length,) = struct.unpack_from("<Q", data, at)
                event = Event.FromString(data[at + 12 : at + 12 + length])
                at += 16 + length
                if event.HasField("session_log") and event.session_log.status == SessionLog.START:
                    shown = [figure for figure in shown if figure[0] < event.step]
                shown += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        return sorted(shown)

    return read


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``source`` and ``target``: 64×96 pictures of colored rectangles with labels, four to train on, two to measure."""
    root = tmp_path_factory.mktemp("data")
    colors = np.random.default_rng(0).integers(0, 256, (19, 3))
    for domain, offset in (("source", 0), ("target", 40)):
        rng = np.random.default_rng(offset)
        for split, count in (("train", 4), ("val", 2)):
            images, labels = root / domain / split / "images", root / domain / split / "labels"
            images.mkdir(parents=True)
            labels.mkdir()
            for index in range(count):
                label = rng.integers(0, 14, (4, 6), dtype=np.uint8).repeat(16, axis=0).repeat(16, axis=1)
                noise = rng.integers(-20, 20, (64, 96, 3))
                image = np.clip(colors[label] + noise + offset, 0, 255).astype(np.uint8)
                assert cv2.imwrite(str(images / f"{index}.png"), image)
                assert cv2.imwrite(str(labels / f"{index}.png"), label)
    return root
