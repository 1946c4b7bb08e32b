"""A clip segmented frame by frame into an overlay that browsers play, drawn as the page is set."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from iccld.app.answers import to_levels
from iccld.app.layers import Drawing, compose
from iccld.app.models import AppModel
from iccld.app.uploads import Upload, check_pixels, opened
from iccld.inference.inputs import InputVideo
from iccld.inference.video_source import Container
from iccld.inference.video_writer import VideoWriter, writing_video

MAX_FRAMES = 300


@dataclass(frozen=True)
class Clip:
    """What became of a video.

    Attributes:
        frames: that were segmented.
        cut: whether the video goes on beyond them.
        size: height and width of the frames.
        seconds_per_frame: of predicting.
    """

    frames: int
    cut: bool
    size: tuple[int, int]
    seconds_per_frame: float


def segment_video(
    model: AppModel,
    source: Upload,
    target: str | os.PathLike[str],
    *,
    steps: int,
    draws: int,
    drawing: Drawing,
    max_frames: int = MAX_FRAMES,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Clip:
    """Writes the overlay of a video as MP4, with its times and sound.

    Args:
        model: segments the frames.
        source: the video.
        target: the file to write, ending in ``.mp4``.
        steps: K.
        draws: N.
        drawing: how the answers are drawn.
        max_frames: frames that are taken from the beginning.
        progress: told frames done and to do after each; what it raises ends the work.

    Raises:
        InputError: no picture can be decoded, or frames are too large.
    """
    target = Path(target)
    with opened(source) as path, ExitStack() as files:
        video = files.enter_context(closing(Container(InputVideo(str(path), path.stem))))
        check_pixels(source.name, *video.size)  # a frame of too many pixels is not even decoded
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
            prediction = model.predict(frame.image, steps, draws)
            spent += time.perf_counter() - start
            levels = to_levels(prediction.relative_uncertainty)
            picture = compose(frame.image, prediction.labels, levels, model.shown, drawing)
            if writer is None:
                output = writing_video(
                    target,
                    size,
                    time_base=video.time_base,
                    rate=video.rate,
                    pixel_aspect=video.pixel_aspect,
                    sound_of=path,
                )
                writer = files.enter_context(output)
            writer.add(picture, frame.pts, frame.duration)
            done += 1
            progress(done, max(total, done))
    return Clip(done, cut, size, spent / done)
