"""``iccld rank``: suggests in which order to label images and video frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from iccld.commands.flags import Count, Device, Inputs, JsonFile, Model, OutFolder, Prediction, Threads
from iccld.commands.output import human_text, print_failures, write_result
from iccld.documents import Range
from iccld.errors import InputError
from iccld.locks import claiming
from iccld.models.settings import PredictSettings
from iccld.outputs import Places, places_of

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
    settings: Prediction = field(default_factory=PredictSettings)
    device: Device = "auto"
    threads: Threads = 0
    json: JsonFile = None
    """JSON file for the ranking, the paths of the contact sheets, and the files that could not be read."""

    def run(self) -> int:
        """Ranks the frames and returns the exit code, which is 1 if some files could not be read."""
        from iccld.data.inputs import find_inputs, split_inputs
        from iccld.inference.ranking import read_written

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
        with claiming(self.out, "rank", "ranking of iccld", besides=["frames", "frames.json"]):
            return self._rank(images, videos)

    def _rank(self, images: list[InputImage], videos: list[InputVideo]) -> int:
        import numpy as np

        from iccld.inference.ranking import rank, ranking_rows, scan, write_frames, write_ranking
        from iccld.inference.segmenter import load_segmenter

        model = load_segmenter(self.model, device=self.device, threads=self.threads)
        options: dict[str, Any] = {"score": self.score, "settings": self.settings, "every": self.every}
        found, failures = scan(model, images, videos, **options)
        if not found:
            raise InputError(f"no frame can be ranked: {failures[0]}")
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
