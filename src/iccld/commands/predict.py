"""``iccld predict``: segment images and video."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from tyro.conf import arg

from iccld.commands.flags import (
    Inputs,
    JsonFile,
    Model,
    OptionalCount,
    OptionalSeconds,
    OutFolder,
    Prediction,
    Threads,
)
from iccld.commands.output import human_text, print_failures, write_result
from iccld.documents import Range
from iccld.errors import InputError
from iccld.exits import interruption_by
from iccld.locks import claiming
from iccld.models.settings import PredictSettings
from iccld.outputs import Places, places_of

if TYPE_CHECKING:
    from iccld.data.description import Description
    from iccld.inference.inputs import InputVideo
    from iccld.inference.rendering import IdKind
    from iccld.inference.segmenter import Segmenter

Kind = Literal["labels", "color", "overlay", "uncertainty"]


@dataclass(frozen=True)
class PredictArgs:
    """Segments images and video: label maps, colors, overlays and uncertainty maps.

    Folders are taken with all images and videos below them, and their structure is kept. Put globs in quotes:
      iccld predict MODEL photos 'drive/**/*.jpg' --out predictions
      iccld predict MODEL clip.mp4 --smoothing 0.7 --out predictions
      iccld predict MODEL camera:0 --seconds 60 --out predictions
      iccld predict MODEL rtsp://192.168.1.20/stream --out predictions

    For each image, PNG files of its size are written to DIR/labels, DIR/color, DIR/overlay and
    DIR/uncertainty. DIR/classes.json has the id, name and color of each class, and DIR/legend.png shows
    them. The uncertainty is the entropy of the class probabilities divided by its maximum: black
    is sure (0), pale yellow clueless (1), on the same scale for every image.

    For clip.mp4, DIR/overlay/clip.mp4 is written: same frames, times and sound. --write color and uncertainty make
    such videos too, --write labels makes DIR/labels/clip/000000.png and on. Ctrl-C ends a video; what was written
    until then can be played.

    Files that cannot be read are listed at the end; the others are done, and the exit code is 1.
    """

    model: Model
    """Folder of a saved model, a hub id (user/model or user/model@revision), or an exported file."""
    inputs: Inputs
    """Images, videos, globs, folders, cameras (camera:0) or addresses (rtsp://…, http://…)."""
    out: OutFolder
    """Folder to write to. Files that an earlier call wrote there are replaced, others never."""
    write: Annotated[tuple[Kind, ...] | None, arg(metavar="KIND...", help_behavior_hint="")] = None
    """What to write: one or more of labels, color, overlay and uncertainty. By default all four of images and the
    overlay of videos."""
    smoothing: Annotated[float, Range(0, 0.999999)] = 0.0
    """Of video: from 0, each frame alone, to below 1, where a frame counts little beside those before it. Starts anew
    at scene cuts."""
    max_frames: OptionalCount = None
    """Stop each video after so many frames."""
    seconds: OptionalSeconds = None
    """Stop each video after so many seconds of it."""
    ids: Annotated[str, arg(metavar="train|index|cityscapes|FILE")] = "train"
    """Numbers in the label maps: train for Cityscapes trainIds (class indices if a class has none), index for
    the model's class indices, cityscapes for Cityscapes labelIds, or a dataset.toml for the ids of its labels."""
    settings: Prediction = field(default_factory=PredictSettings)
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, ..."""
    threads: Threads = 0
    """CPU threads; 0 for automatic."""
    json: JsonFile = None
    """Where to write what was predicted and what failed."""

    def run(self) -> int:
        """Predicts; 1 if some inputs could not be."""
        from iccld.inference.inputs import find_inputs, split_inputs
        from iccld.inference.segmenter import load_segmenter
        from iccld.inference.video import Limits

        if self.write == ():
            raise InputError("--write names nothing; give one or more of labels color overlay uncertainty")
        # ``find_inputs`` leaves out what lies in a folder of outputs below the inputs.
        Places(
            files={"--json": (self.json, "json")},
            folders={"--out": self.out},
            data=[*places_of(self.inputs), *places_of([self.ids])],
            models=[self.model],
            may_lie_in_data=True,
        ).check()
        limits = Limits(self.max_frames, self.seconds)
        ids = _read_ids(self.ids)
        images, videos = split_inputs(find_inputs(self.inputs, out=self.out))
        with claiming(self.out, "predict", "predictions of iccld"), human_text(self.json):
            model = load_segmenter(self.model, device=self.device, threads=self.threads)
            failures = self._predict_images(model, images, ids) if images else []
            done = len(images) - len(failures)
            clips, interrupted = self._predict_videos(model, videos, ids, limits, failures)
        if failures and len(images) + len(videos) == 1 and not clips:
            raise InputError(failures[0])
        facts = {"model": self.model, "out": str(self.out), "images": done}
        write_result(self.json, {**facts, "videos": clips, "failures": failures})
        what = f"{len(images) + len(videos)} {'inputs' if videos else 'images'}"
        print_failures(f"{len(failures)} of {what} could not be predicted", failures)
        if interrupted is not None:
            raise interrupted
        return 1 if failures else 0

    def _predict_images(self, model: Segmenter, images: list[Any], ids: IdKind | Description) -> list[str]:
        """Predicts images; gives a line for each that could not be."""
        from iccld.inference.media import OUTPUT_KINDS, predict_files

        kinds = self.write or OUTPUT_KINDS
        failures = predict_files(model, images, self.out, write=kinds, ids=ids, settings=self.settings)
        done = len(images) - len(failures)
        if done:
            print(f"{done} image{'' if done == 1 else 's'} predicted: {self.out}/ ({', '.join(kinds)})")
        return failures

    def _predict_videos(
        self,
        model: Segmenter,
        videos: list[InputVideo],
        ids: IdKind | Description,
        limits: Any,
        failures: list[str],
    ) -> tuple[list[dict[str, Any]], KeyboardInterrupt | None]:
        """Predicts videos one by one; gives their facts, and the interruption that stopped a file, if any.

        A line for each video that is not whole is added to the failures.
        """
        from iccld.inference.inputs import naming
        from iccld.inference.video import VIDEO_OUTPUTS, predict_video
        from iccld.training.interruption import Interruption

        kinds = self.write or VIDEO_OUTPUTS
        clips: list[dict[str, Any]] = []
        options: dict[str, Any] = {"write": kinds, "ids": ids, "settings": self.settings, "limits": limits}
        options["smoothing"] = self.smoothing
        for video in videos:
            with Interruption() as interruption:
                try:
                    result = predict_video(model, video, self.out, stop=interruption.has_come, **options)
                except InputError as error:
                    if interruption.signal:  # before its first frame
                        return clips, interruption_by(interruption.signal)
                    failures.append(naming(video.title, error))
                    continue
            count = result.num_frames
            of = f"{video.title}: {count} frame{'' if count == 1 else 's'} ({result.seconds:.1f} s)"
            print(f"{of} predicted: {self.out}/ ({', '.join(kinds)})", flush=True)
            facts = {"frames": count, "damaged": result.num_damaged, "seconds": result.seconds}
            clips.append({"video": video.title, **facts})
            if result.problem:
                failures.append(f"{result.problem}; {count} frames are predicted")
            if result.stopped and video.is_file:
                return clips, interruption_by(interruption.signal)
        return clips, None


def _read_ids(ids: str) -> IdKind | Description:
    from iccld.data.description import read_description
    from iccld.inference.rendering import IdKind

    kinds: dict[str, IdKind] = {kind: kind for kind in get_args(IdKind)}
    if ids in kinds:
        return kinds[ids]
    if not Path(ids).is_file():
        raise InputError(f"--ids {ids}: is no file; give a dataset.toml, or one of {', '.join(kinds)}")
    return read_description(Path(ids))
