"""``iccld predict``: segments images and videos."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from tyro.conf import arg

from iccld.commands import flags
from iccld.commands.output import human_text, print_failures, write_result
from iccld.documents import Range
from iccld.errors import InputError, import_extra
from iccld.exits import interruption_by
from iccld.locks import claiming
from iccld.models.settings import PredictSettings
from iccld.outputs import Places, places_of
from iccld.remote import shown
from iccld.shards import WHOLE, Shard, parse_shard

if TYPE_CHECKING:
    from iccld.data.description import Description
    from iccld.data.inputs import InputImage, InputVideo
    from iccld.inference.rendering import IdKind
    from iccld.inference.segmenter import Segmenter

Kind = Literal["labels", "color", "overlay", "uncertainty", "coco", "labelme", "table"]


@dataclass(frozen=True)
class PredictArgs:
    """Segments images and videos, and writes label maps, colors, overlays and uncertainty maps.

    Folders are read with all subfolders, and the output has the same subfolders. Put glob patterns in quotes:
      iccld predict MODEL photos 'drive/**/*.jpg' --out predictions
      iccld predict MODEL clip.mp4 --smoothing 0.7 --out predictions
      iccld predict MODEL camera:0 --seconds 60 --out predictions
      iccld predict MODEL rtsp://192.168.1.20/stream --out predictions

    For each image, PNG files of the same size are written to DIR/labels, DIR/color, DIR/overlay and
    DIR/uncertainty. DIR/classes.json contains the id, name and color of each class, and DIR/legend.png shows the
    classes. The uncertainty is the entropy of the class probabilities divided by its maximum. It is drawn from
    black (0) to pale yellow (1), on the same scale for every image.

    For clip.mp4, DIR/overlay/clip.mp4 is written with the same frames, timestamps and sound. --write color uncertainty
    writes such videos to DIR/color and DIR/uncertainty. --write labels writes PNG files instead of a video:
    DIR/labels/clip/000000.png and so on. After Ctrl-C, the part of a video written so far is playable.

    Several processes or machines can share the work, and a killed process continues with the same command:
      iccld predict MODEL photos --out predictions --shard 0/8

    Files that cannot be read are skipped and listed at the end, and the exit code is 1.
    """

    model: flags.Model
    """Folder of a saved model, streets (built in), hub id (user/model[@revision]), or exported file."""
    inputs: flags.Inputs
    """Images, videos, glob patterns, folders, cameras (camera:0) or URLs (rtsp://…, http://…)."""
    out: flags.OutFolder = Path("predictions")
    """Output folder. Only files that an earlier call wrote to the folder are replaced."""
    write: Annotated[tuple[Kind, ...] | None, arg(metavar="KIND...", help_behavior_hint="")] = None
    """Kinds of output: one or more of labels, color, overlay and uncertainty, and for images also coco and labelme
    (annotations as JSON files) and table (Parquet files with the class shares and the uncertainty of each image). The
    default is the first four for images and overlay for videos."""
    shard: flags.ShardFlag = None
    """Predict part I (from 0) of N parts of the images, for N processes with the same output folder. Images that an
    earlier call has finished are skipped, so the same command continues after a crash. 0/1 is the whole."""
    engine: Literal["local", "ray"] = "local"
    """Program that predicts the images: this process, or workers of Ray (on this machine, or on the cluster in the
    environment variable RAY_ADDRESS)."""
    workers: Annotated[int, Range(1, 100_000)] = 1
    """Number of workers of Ray."""
    gpus: Annotated[float, Range(0, 64)] = 0.0
    """Number of GPUs of each worker of Ray, for example 0.5."""
    smoothing: Annotated[float, Range(0, 0.999999)] = 0.0
    """Strength of exponential smoothing over the frames of a video, from 0 (no smoothing) to below 1. Smoothing
    restarts at scene cuts."""
    max_frames: flags.OptionalCount = None
    """Stop each video after N frames."""
    seconds: flags.OptionalSeconds = None
    """Stop each video after the first S seconds of its playing time."""
    ids: Annotated[str, arg(metavar="train|index|cityscapes|FILE")] = "train"
    """Ids in the label maps: train (Cityscapes trainIds, or class indices if any class has no trainId), index (class
    indices of the model), cityscapes (Cityscapes labelIds), or a dataset.toml file that defines the ids."""
    map: flags.ClassMap = None
    settings: flags.Prediction = field(default_factory=PredictSettings)
    device: flags.Device = "auto"
    threads: flags.Threads = 0
    json: flags.JsonFile = None
    """JSON file for a summary of the written predictions and of all failures."""

    def run(self) -> int:
        """Predicts all inputs and returns the exit code, which is 1 if some inputs failed."""
        from iccld.data.inputs import find_inputs, split_inputs
        from iccld.inference.blocks import DONE
        from iccld.inference.mapping import load_mapped
        from iccld.inference.media import ANNOTATION_KINDS
        from iccld.inference.video import Limits

        shard = None if self.shard is None else parse_shard(self.shard)
        if self.write == ():
            raise InputError("--write names nothing; give one or more of labels color overlay uncertainty")
        # The output folder may lie in an input folder, because ``find_inputs`` skips files in the output folder.
        Places(
            files={"--json": (self.json, "json")},
            folders={"--out": self.out},
            data=[*places_of(self.inputs), *places_of([self.ids, self.map or ""])],
            models=[self.model],
            may_lie_in_data=True,
            may_be_remote=True,
        ).check()
        limits = Limits(self.max_frames, self.seconds)
        options = {"ids": _read_ids(self.ids), "settings": self.settings}
        images, videos = split_inputs(find_inputs(self.inputs, out=self.out))
        if videos and (wrong := {*ANNOTATION_KINDS, "table"}.intersection(self.write or ())):
            title = videos[0].title
            raise InputError(f"--write {min(wrong)}: is for images, and {title} is a video; leave it out")
        if videos and (shard is not None or self.engine == "ray"):
            flag = "--shard" if shard is not None else "--engine ray"
            raise InputError(f"{flag} is for images, and {videos[0].title} is a video; predict it without")
        if self.engine == "local" and (self.workers > 1 or self.gpus):
            raise InputError(
                "--workers and --gpus are for --engine ray; several processes need --shard I/N each"
            )
        if "table" in (self.write or ()):
            import_extra("pyarrow.parquet", "--write table needs pyarrow", "cloud")
        part = self.out / DONE / shard.folder if shard else None
        claim = claiming(self.out, "predict", "predictions of iccld", besides=(DONE,), part=part)
        with claim, human_text(self.json):
            model = load_mapped(self.model, self.map, device=self.device, threads=self.threads)
            images, failures = self._predict_images(model, images, options, shard) if images else ([], [])
            done = len(images) - len(failures)
            clips, interrupted = self._predict_videos(model, videos, {**options, "limits": limits}, failures)
        if failures and shard is None and len(images) + len(videos) == 1 and not clips:
            raise InputError(failures[0])
        facts = {"model": self.model, "out": shown(self.out), "images": done}
        write_result(self.json, {**facts, "videos": clips, "failures": failures})
        what = f"{len(images) + len(videos)} {'inputs' if videos else 'images'}"
        print_failures(f"{len(failures)} of {what} could not be predicted", failures)
        if interrupted is not None:
            raise interrupted
        return 1 if failures else 0

    def _predict_images(
        self, model: Segmenter, images: list[InputImage], options: dict[str, Any], shard: Shard | None
    ) -> tuple[list[InputImage], list[str]]:
        """Segments images and writes the outputs. Returns the images to predict and one line for each failure.

        With a shard, these are the images of the shard that are not finished yet.
        """
        from iccld.inference.blocks import identity_of, plan_blocks
        from iccld.inference.engines import Work, predict_with_ray
        from iccld.inference.media import OUTPUT_KINDS, predict_files

        kinds = self.write or OUTPUT_KINDS
        written = [kind for kind in kinds if kind != "table"]
        if shard is None and "table" not in kinds and self.engine == "local":
            failures = predict_files(model, images, self.out, write=written, **options)
        else:
            identity, resume = identity_of(model, write=kinds, **options), shard is not None
            blocks, num_done = plan_blocks(
                self.out, shard or WHOLE, images, identity, resume=resume, has_table="table" in kinds
            )
            work = Work(self.model, self.map, self.out, written, options, self.device, self.threads)
            if self.engine == "local":
                failures = work.predict(model, blocks)
            else:
                failures = (
                    predict_with_ray(work, blocks, workers=self.workers, gpus=self.gpus) if blocks else []
                )
            images = [image for block in blocks for image in block.images]
            if num_done:
                print(f"{num_done} images of shard {shard} were predicted earlier")
        if done := len(images) - len(failures):
            print(
                f"{done} image{'' if done == 1 else 's'} predicted: {shown(self.out)}/ ({', '.join(kinds)})"
            )
        return images, failures

    def _predict_videos(
        self, model: Segmenter, videos: list[InputVideo], options: dict[str, Any], failures: list[str]
    ) -> tuple[list[dict[str, Any]], KeyboardInterrupt | None]:
        """Segments videos one by one. For each video that could not be read completely, adds a line to ``failures``.

        Returns a summary of each video, and an exception for the caller to raise. The exception is ``None`` if no
        signal arrived, or if a signal only ended the recording of a camera or stream.
        """
        from iccld.data.inputs import naming
        from iccld.inference.video import VIDEO_OUTPUTS, predict_video
        from iccld.training.interruption import Interruption

        kinds = self.write or VIDEO_OUTPUTS
        options = {**options, "write": kinds, "smoothing": self.smoothing}
        clips: list[dict[str, Any]] = []
        for video in videos:
            with Interruption() as interruption:
                try:
                    result = predict_video(model, video, self.out, stop=interruption.has_come, **options)
                except InputError as error:
                    if interruption.signal:  # a signal arrived before the first frame of the video
                        return clips, interruption_by(interruption.signal)
                    failures.append(naming(video.title, error))
                    continue
            count = result.num_frames
            of = f"{video.title}: {count} frame{'' if count == 1 else 's'} ({result.seconds:.1f} s)"
            print(f"{of} predicted: {shown(self.out)}/ ({', '.join(kinds)})", flush=True)
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
