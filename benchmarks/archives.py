"""Compares the time to read training frames from files and from the tar archives of ``iccld data shards``.

``python benchmarks/archives.py NAME FOLDER`` packs the split ``train`` of a data set, then reads all images and labels
from both, in turn. The last line is the median ratio of the times (files / archives).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from iccld.data.datasets import FileDataset, find_files, open_dataset
from iccld.data.webdataset import write_shards

ROUNDS = 5


def seconds(dataset: FileDataset) -> float:
    """Returns the time in seconds to read all images and labels."""
    start = time.perf_counter()
    for index in range(len(dataset)):
        dataset.image(index)
        dataset.label(index)
    return time.perf_counter() - start


def main() -> None:
    """Runs the comparison."""
    name, root = sys.argv[1:]
    layout = find_files(name, root, "train", needs_labels=True)
    files = FileDataset(layout, layout.space)
    with tempfile.TemporaryDirectory() as folder:
        write_shards({"train": files}, Path(folder), 100)
        packed = open_dataset("folder", folder, split="train")
        assert isinstance(packed, FileDataset)
        ratios = []
        for number in range(ROUNDS):
            one, other = seconds(files), seconds(packed)
            ratios.append(one / other)
            print(f"round {number}: {len(files)} frames, files {one:.2f} s, archives {other:.2f} s")
    print(f"speed of archives: {statistics.median(ratios):.2f} of files")


if __name__ == "__main__":
    main()
