"""``iccld data shards``: packs a data set into tar archives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from iccld.commands.flags import Count, JsonFile
from iccld.commands.output import human_text, write_result
from iccld.errors import InputError
from iccld.locks import claiming
from iccld.outputs import Places, require_on_disk

if TYPE_CHECKING:
    from iccld.data.datasets import FileDataset


@dataclass(frozen=True)
class DataShardsArgs:
    """Packs a data set into tar archives in the layout of WebDataset, so that it consists of few large files.

    Example: iccld data shards folder datasets/mine --out datasets/mine_shards

    All splits are written, with a dataset.toml. Images are stored as they are, labels as indexed PNG, and one JSON file
    for each frame. Training, evaluation and data check read the archives in place: --data.source-root
    datasets/mine_shards. After an interruption, the same command writes the missing archives.
    """

    name: Annotated[Positional[str], arg(metavar="NAME")]
    """Data set: gta5, synthia, cityscapes, camvid or folder."""
    root: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """Folder of the data set."""
    out: Path
    """Folder of the archives."""
    frames: Count = 1000
    """Number of frames of an archive."""
    json: JsonFile = None
    """JSON file for the numbers of frames and archives."""

    def run(self) -> int:
        """Writes the missing archives and returns the exit code."""
        from iccld.data.webdataset import write_shards

        require_on_disk("--out", self.out)
        Places(files={"--json": (self.json, "json")}, folders={"--out": self.out}, data=[self.root]).check()
        splits = self._splits()
        with claiming(self.out, "data shards", "archives of iccld", record="dataset.toml"):
            written, kept = write_shards(splits, self.out, self.frames)
        frames = {split: len(dataset) for split, dataset in splits.items()}
        with human_text(self.json):
            listing = ", ".join(f"{split}: {count}" for split, count in frames.items())
            print(f"{written} archives written, {kept} kept: {self.out}/ (frames: {listing})")
        write_result(self.json, {"out": str(self.out), "written": written, "kept": kept, "frames": frames})
        return 0

    def _splits(self) -> dict[str, FileDataset]:
        from iccld.data.datasets import FileDataset, find_files, list_splits

        if self.name == "street_scenes":
            raise InputError("street_scenes: are no files; write them with 'iccld data scenes' first")
        splits = {}
        for split in list_splits(self.name, self.root):
            layout = find_files(self.name, self.root, split, needs_labels=False)
            splits[split] = FileDataset(layout, layout.space, needs_labels=layout.has_labels)
        if not splits:
            raise InputError(f"{self.root}: has no split of {self.name}; name the data set's own folder")
        return splits
