"""``iccld rank``: which unlabeled frames to label next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from iccld.commands.flags import (
    Count,
    Inputs,
    JsonFile,
    Model,
    OptionalCount,
    OptionalSize,
    OutFolder,
    Overlap,
    Precision,
    Seed,
    Threads,
)
from iccld.commands.output import human_text, print_failures, write_result
from iccld.documents import Range
from iccld.errors import InputError
from iccld.locks import working_in
from iccld.outputs import Places, claiming, places_of, require_own

if TYPE_CHECKING:
    from iccld.inference.candidates import Candidate
    from iccld.inference.inputs import InputImage, InputVideo
    from iccld.inference.ranking import Ranked
    from iccld.inference.segmenter import PredictSettings, Segmenter


@dataclass(frozen=True)
class RankArgs:
    """Orders unlabeled frames by what to label next: frames that the model is unsure of, each unlike the others.

      iccld rank MODEL photos --out next --top 30
      iccld rank MODEL 'drives/*.mp4' --every 0.5 --out next

    DIR/rank.csv lists every frame: rank, file, frame, score, distance to the nearest frame chosen before, that
    neighbor. DIR/contact_sheet.png shows the first ones: image, uncertainty, score. Those that come from videos are
    written to DIR/frames as PNG, ready to be labeled.

    The score is the mean uncertainty of the pixels. Frames are chosen one after the other by score × distance to
    what is chosen already, so that near-duplicates do not fill the list; --diversity 0 orders by the score alone.

    Files that cannot be read are listed at the end; the others are done, and the exit code is 1.
    """

    model: Model
    """Folder of a saved model, a hub id, or an exported file."""
    inputs: Inputs
    """Images, videos, globs or folders."""
    out: OutFolder
    """Folder to write to. Files that an earlier call wrote there are replaced, others never."""
    top: Count = 50
    """How many are chosen one by one and shown. The others follow in the list, by their scores and their distances to
    those."""
    diversity: Annotated[float, Range(0, 1e9)] = 1.0
    """Weight of the distance: 0 for uncertainty alone; the larger, the less the uncertainty counts."""
    score: Literal["entropy", "mutual_information", "margin"] = "entropy"
    """Uncertainty of a pixel: entropy of the class probabilities, mutual_information (disagreement between --draws)
    or margin (1 − lead of the first class over the second)."""
    every: Annotated[float, Range(1e-6, 1e9)] = 1.0
    """Of videos: seconds from one frame to the next that is looked at."""
    steps: OptionalCount = None
    """Denoising steps K: 1 by default, or what an exported model was made with."""
    draws: OptionalCount = None
    """Noise draws N whose probabilities are averaged: 1 by default, or what an exported model was made with."""
    window: OptionalSize = None
    """Height and width of a sliding window in pixels. By default each image is taken whole."""
    overlap: Overlap = 0.25
    """Share of a window that the next one covers again."""
    resize: OptionalSize = None
    """Height and width that the model sees. By default the image's own."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, ..."""
    precision: Precision = "auto"
    """fp32, bf16, or auto: bf16 where the device is fast at it, and for an exported file its own."""
    threads: Threads = 0
    """CPU threads; 0 for automatic."""
    seed: Seed = 0
    """Seed of the noise."""
    json: JsonFile = None
    """Where to write the ranking with the sheets and the files that could not be read."""

    def run(self) -> int:
        """Ranks; 1 if some files could not be read."""
        from iccld.inference.candidates import read_written
        from iccld.inference.inputs import find_inputs, split_inputs
        from iccld.inference.ranking import check_ranking
        from iccld.inference.segmenter import PredictSettings

        Places(
            files={"--json": (self.json, "json")},
            folders={"--out": self.out},
            data=places_of(self.inputs),
            models=[self.model],
            may_lie_in_data=True,
        ).check()
        settings = PredictSettings(
            self.steps, self.draws, self.seed, self.window, self.overlap, self.resize, self.precision
        )
        check_ranking(self.top, self.diversity)
        images, videos = split_inputs(find_inputs(self.inputs, out=self.out, shared_names=True))
        for video in videos:
            if not video.is_file:
                raise InputError(
                    f"{video.title}: only files can be ranked; record it with iccld predict first"
                )
        read_written(self.out / "frames")  # before hours of work: what lies there may not be ours
        names = ("rank.csv", "contact_sheet.png")  # of the frames there is a record of its own
        require_own(self.out, "rank", "rank.csv", "ranking of iccld", besides=["frames", "frames.json"])
        with working_in(self.out), claiming(self.out, "rank", names):
            return self._rank(images, videos, settings)

    def _rank(self, images: list[InputImage], videos: list[InputVideo], settings: PredictSettings) -> int:
        from iccld.inference.candidates import scan, write_frames
        from iccld.inference.ranking import rank, ranking_rows, write_ranking
        from iccld.inference.segmenter import load_segmenter

        model = load_segmenter(self.model, device=self.device, threads=self.threads)
        found = scan(model, images, videos, score=self.score, settings=settings, every=self.every)
        if not found.candidates:
            raise InputError(f"no frame can be ranked: {found.failures[0]}")
        order = rank(found.scores, found.embeddings, top=self.top, diversity=self.diversity)
        names = [(candidate.file, candidate.frame) for candidate in found.candidates]
        write_ranking(self.out / "rank.csv", order, names)
        first = order[: self.top]
        shown = [found.candidates[item.index] for item in first]
        places = write_frames(shown, self.out / "frames", self.every)
        captions = [self._caption(place, item, found.candidates) for place, item in enumerate(first, start=1)]
        pages = self._draw_sheet(model, settings, [places[candidate] for candidate in shown], captions)
        with human_text(self.json):
            print(f"{len(order)} frame{'' if len(order) == 1 else 's'} ranked: {self.out / 'rank.csv'}")
            print(f"the first {len(first)}: {', '.join(map(str, pages))}")
        print_failures(f"{len(found.failures)} files could not be read to their end", found.failures)
        result = {"frames": ranking_rows(order, names), "sheets": [str(page) for page in pages]}
        write_result(self.json, {**result, "failures": list(map(str, found.failures))})
        return 1 if found.failures else 0

    def _caption(self, place: int, item: Ranked, candidates: Sequence[Candidate]) -> str:
        lines = [
            f"{place}   {candidates[item.index].title}",
            f"{self.score.replace('_', ' ')} {item.score:.3f}",
        ]
        if item.neighbor is not None:
            lines[1] += f", distance {item.distance:.3f} from {candidates[item.neighbor].title}"
        return "\n".join(lines)

    def _draw_sheet(
        self, model: Segmenter, settings: PredictSettings, paths: Sequence[Path], captions: Sequence[str]
    ) -> list[Path]:
        """Draws every image beside its uncertainty, predicted once more: maps of all frames would fill the memory."""
        import numpy as np

        from iccld.data.image_files import read_image
        from iccld.inference.rendering import heat_map
        from iccld.inference.segmenter import predict_image
        from iccld.progress import track
        from iccld.reporting.figures import contact_sheet

        def cells() -> Iterator[Any]:
            for path in track(paths, len(paths), "Contact sheet"):
                image = read_image(path)
                yield np.hstack([image, heat_map(predict_image(model, image, settings).relative_uncertainty)])

        return contact_sheet(cells(), captions, self.out / "contact_sheet.png", columns=2, cell_width=640)
