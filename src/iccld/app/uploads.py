"""Uploaded files: reads them within limits, and writes the overlay of an uploaded video as MP4 for browsers."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from iccld.app.answers import AppModel, Settings, compose
from iccld.data.image_files import IMAGE_SUFFIXES, image_size, read_image
from iccld.errors import InputError
from iccld.inference.inputs import VIDEO_SUFFIXES, InputVideo
from iccld.inference.rendering import Image, to_levels
from iccld.inference.video_source import Container
from iccld.inference.video_writer import VideoWriter, writing_video

MAX_PIXELS = 40_000_000
"""Maximum number of pixels of an image or frame. At the maximum, the probabilities of 19 classes need 3 GB."""
MAX_FRAMES = 300
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Upload:
    """An uploaded file. ``path`` has a generated name. ``name`` is the user's file name, cleaned by ``safe_name``."""

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        """Whether the file name has the extension of a video."""
        return self.path.suffix in VIDEO_SUFFIXES

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """Yields the path. Raises ``InputError`` if the file no longer exists.

        If the ``with`` block raises an ``InputError``, the path in the error message is replaced by ``name``.
        """
        try:
            if not self.path.exists():
                raise InputError(f"{self.name}: is no longer here; upload it again")
            yield self.path
        except InputError as error:
            said = str(error).replace(str(self.path), self.name).replace(str(self.path.parent), "")
            raise InputError(said.replace(self.path.name, self.name)) from error

    def read(self) -> Image:
        """Reads the file as an RGB image. Raises ``InputError`` if the image is too large or unreadable."""
        with self.opened() as path:
            if path.stat().st_size:  # an empty file has no height and width; ``read_image`` raises the error
                check_pixels(self.name, *image_size(path))
            return read_image(path)


def safe_name(name: str) -> str:
    """Returns a safe and shortened file name for a file name that the page sent.

    Folders, control characters and characters that some file systems do not allow are removed.
    """
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(c for c in last if c not in '<>:"|?*' and unicodedata.category(c)[0] != "C").rstrip(" .")
    stem, dot, suffix = kept.rpartition(".")
    if not dot:
        stem, suffix = suffix, ""
    return f"{stem.strip(' .')[:_LONGEST_NAME] or 'upload'}{dot}{suffix[:10]}"


def suffix_of(name: str) -> str:
    """Returns a file name's extension in lower case. Raises ``InputError`` if the extension is not supported."""
    suffix = Path(name).suffix.lower()
    if suffix not in IMAGE_SUFFIXES and suffix not in VIDEO_SUFFIXES:
        raise InputError(f"{name}: is no image and no video by its name; give a PNG, a JPEG or an MP4")
    return suffix


def check_pixels(name: str, height: int, width: int, *, max_pixels: int = MAX_PIXELS) -> None:
    """Raises ``InputError`` if an image has more than ``max_pixels`` pixels, which would need too much memory."""
    if height * width > max_pixels:
        raise InputError(
            f"{name}: has {width}×{height} pixels, more than the {max_pixels / 1e6:g} million that are taken here; "
            "make it smaller"
        )


@dataclass(frozen=True)
class Clip:
    """The result of segmenting a video.

    ``frames`` is the number of segmented frames. ``cut`` is true if the video has more frames than were segmented.
    ``size`` is the height and width of the frames in pixels. ``seconds_per_frame`` is the mean computing time.
    """

    frames: int
    cut: bool
    size: tuple[int, int]
    seconds_per_frame: float


def segment_video(
    model: AppModel,
    source: Upload,
    target: Path,
    settings: Settings,
    progress: Callable[[int, int], None],
    *,
    max_frames: int = MAX_FRAMES,
) -> Clip:
    """Segments a video up to ``max_frames`` frames and writes the overlay as MP4, with original timestamps and sound.

    After each frame, ``progress`` is called with the number of finished frames and the expected number of all frames.
    If ``progress`` raises an exception, the segmentation ends. Raises ``InputError`` if no frame can be decoded, or if
    the frames are too large.
    """
    with source.opened() as path, ExitStack() as files:
        video = files.enter_context(closing(Container(InputVideo(str(path), path.stem))))
        # Checked before decoding, because decoding already needs memory for a whole frame.
        check_pixels(source.name, *video.size)
        total = min(max_frames, video.num_frames or max_frames)
        done, cut, spent, size = 0, False, 0.0, (0, 0)
        writer: VideoWriter | None = None
        for frame in video.frames():
            if done == max_frames:
                cut = True
                break
            size = (frame.image.shape[0], frame.image.shape[1])
            check_pixels(source.name, *size)
            start = time.perf_counter()
            prediction = model.predict(frame.image, settings.steps, settings.draws)
            spent += time.perf_counter() - start
            levels = to_levels(prediction.relative_uncertainty)
            picture = compose(frame.image, prediction.labels, levels, model.shown, settings)
            if writer is None:
                opened = writing_video(target, size, sound_of=path, **video.announced)
                writer = files.enter_context(opened)
            writer.add(picture, frame.pts, frame.duration)
            done += 1
            progress(done, max(total, done))
    return Clip(done, cut, size, spent / done)
