"""``iccld rank``: suggests in which order to label images and video frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from iccld.commands.flags import (
    Count,
    Device,
    Inputs,
    JsonFile,
    Model,
    OutFolder,
    Prediction,
    ShardFlag,
    Threads,
)
from iccld.commands.output import human_text, print_failures, write_result
from iccld.documents import Range
from iccld.errors import InputError
from iccld.locks import claiming
from iccld.models.settings import PredictSettings
from iccld.outputs import Places, places_of
from iccld.shards import WHOLE, Shard, parse_shard

if TYPE_CHECKING:
    from iccld.data.inputs import InputImage, InputVideo
    from iccld.inference.segmenter import Segmenter


@dataclass(frozen=True)
class RankArgs:
    """Ranks unlabeled frames for labeling. The top-ranked frames are uncertain and differ from each other.

      iccld rank MODEL photos --out next --top 30
      iccld rank MODEL 'drives/*.mp4' --every 0.5 --out next

    DIR/rank.csv lists every frame with rank, file, frame number and score. For each frame, the file also names the
    most similar frame of higher rank and gives the distance to that frame. DIR/contact_sheet.png shows image,
    uncertainty and score of the top-ranked frames. Top-ranked video frames are also written to DIR/frames as PNG
    files for labeling.

    The score of a frame is the mean uncertainty of its pixels. The distance of two frames is the distance of their
    image embeddings (unit vectors). Frames are selected one by one. The next frame is the frame with the
    largest product of its score and its distance to the nearest frame selected before. Near-duplicates therefore do
    not get top ranks.

    Files that cannot be read are skipped and listed at the end, and the exit code is 1.

    Several processes can score the frames: each is called with its --shard I/N and the same --out. The same command
    with --merge instead of --shard then ranks the frames of all parts.
    """

    model: Model
    """Folder of a saved model, streets (built in), hub id, or exported file."""
    inputs: Inputs
    """Images, videos, glob patterns or folders."""
    out: OutFolder
    """Output folder. Only files that an earlier call wrote to the folder are replaced."""
    top: Count = 50
    """Number of top-ranked frames, which are selected one by one and shown. All other frames follow in the ranking, by
    score and distance to the nearest top-ranked frame."""
    diversity: Annotated[float, Range(0, 1e9)] = 1.0
    """Exponent of the distance in the product with the score. With 0, only the score counts."""
    score: Literal["entropy", "mutual_information", "margin"] = "entropy"
    """Uncertainty of a pixel: entropy (of the class probabilities), mutual_information (disagreement between noise
    draws) or margin (1 − difference of the two highest probabilities)."""
    every: Annotated[float, Range(1e-6, 1e9)] = 1.0
    """Interval in seconds between the ranked frames of a video."""
    shard: ShardFlag = None
    """Only score part I of N parts of the inputs, and write the scores to DIR/parts. A hash of a name decides its
    part."""
    merge: bool = False
    """Rank the frames of all parts in DIR/parts."""
    settings: Prediction = field(default_factory=PredictSettings)
    device: Device = "auto"
    threads: Threads = 0
    json: JsonFile = None
    """JSON file for the ranking, the paths of the contact sheets, and the files that could not be read."""

    def run(self) -> int:
        """Ranks the frames and returns the exit code, which is 1 if some files could not be read."""
        shard = None if self.shard is None else parse_shard(self.shard)
        if shard is not None and self.merge:
            raise InputError("--shard scores one part and --merge ranks all parts; give one of them")
        from iccld.data.inputs import find_inputs, split_inputs
        from iccld.inference.ranking import read_written
        from iccld.inference.ranking_parts import PARTS

        Places(
            files={"--json": (self.json, "json")},
            folders={"--out": self.out},
            data=places_of(self.inputs),
            models=[self.model],
            may_lie_in_data=True,
        ).check()
        images, videos = split_inputs(find_inputs(self.inputs, out=self.out, shared_names=True))
        for video in videos:
            if not video.is_file:
                raise InputError(f"{video.title}: only files can be ranked; record it with iccld predict")
        read_written(self.out / "frames")  # raises before hours of work if frames.json is invalid
        # The folder ``frames`` may exist, because ``read_written`` has compared it with the list in frames.json.
        part = None if shard is None else self.out / PARTS / shard.folder
        with claiming(
            self.out, "rank", "ranking of iccld", besides=["frames", "frames.json", PARTS], part=part
        ):
            return self._rank(images, videos, shard)

    def _rank(self, images: list[InputImage], videos: list[InputVideo], shard: Shard | None) -> int:
        import numpy as np

        from iccld.inference.blocks import identity_of
        from iccld.inference.ranking import rank, ranking_rows, scan, write_frames, write_ranking
        from iccld.inference.ranking_parts import read_parts, write_part
        from iccld.inference.segmenter import load_segmenter

        model = load_segmenter(self.model, device=self.device, threads=self.threads)
        options: dict[str, Any] = {"score": self.score, "settings": self.settings, "every": self.every}
        identity = identity_of(model, **options) if shard is not None or self.merge else ""
        if self.merge:
            found, failures = read_parts(self.out, identity, [*images, *videos])
        else:
            mine = shard or WHOLE
            images = [image for image in images if mine.takes(image.name)]
            videos = [video for video in videos if mine.takes(video.name)]
            found, failures = scan(model, images, videos, **options)
        if shard is not None:
            path = write_part(self.out, shard, identity, found, failures)
            with human_text(self.json):
                print(f"{len(found)} frame{'' if len(found) == 1 else 's'} scored: {path}")
            print_failures(f"{len(failures)} files could not be read to their end", failures)
            write_result(self.json, {"part": str(path), "scored": len(found), "failures": failures})
            return 1 if failures else 0
        if not found:
            raise InputError(f"no frame can be ranked: {[*failures, 'there is none'][0]}")
        vectors = np.stack([candidate.vector for candidate in found])
        order = rank([c.score for c in found], vectors, top=self.top, diversity=self.diversity)
        names = [(candidate.file, candidate.frame) for candidate in found]
        write_ranking(self.out / "rank.csv", order, names)
        shown = [found[item.index] for item in order[: self.top]]
        places = write_frames(shown, self.out / "frames", self.every)
        captions = []
        for place, item in enumerate(order[: self.top], start=1):
            text = f"{place}   {found[item.index].title}\n{self.score.replace('_', ' ')} {item.score:.3f}"
            if item.neighbor is not None:
                text += f", distance {item.distance:.3f} from {found[item.neighbor].title}"
            captions.append(text)
        pages = self._draw_sheet(model, [places[candidate] for candidate in shown], captions)
        with human_text(self.json):
            print(f"{len(order)} frame{'' if len(order) == 1 else 's'} ranked: {self.out / 'rank.csv'}")
            print(f"the first {len(shown)}: {', '.join(map(str, pages))}")
        print_failures(f"{len(failures)} files could not be read to their end", failures)
        result = {"frames": ranking_rows(order, names), "sheets": [str(page) for page in pages]}
        write_result(self.json, {**result, "failures": failures})
        return 1 if failures else 0

    def _draw_sheet(self, model: Segmenter, paths: Sequence[Path], captions: Sequence[str]) -> list[Path]:
        """Draws a contact sheet of images beside their uncertainty maps, and returns the written files.

        To save memory, the uncertainty is predicted again instead of being kept for all frames.
        """
        import numpy as np

        from iccld.data.image_files import read_image
        from iccld.drawing import heat_map
        from iccld.inference.segmenter import predict_image
        from iccld.progress import track
        from iccld.reporting.figures import contact_sheet

        def cells() -> Iterator[Any]:
            for path in track(paths, len(paths), "Contact sheet"):
                image = read_image(path)
                prediction = predict_image(model, image, self.settings)
                yield np.hstack([image, heat_map(prediction.relative_uncertainty)])

        return contact_sheet(cells(), captions, self.out / "contact_sheet.png", columns=2, cell_width=640)
