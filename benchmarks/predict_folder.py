"""Fraction of the time that ``iccld predict`` spends in the network on a folder of images.

    python benchmarks/predict_folder.py streets FOLDER --count 200 --threads 1

The images are first segmented from memory, and then by ``predict_files``, which reads, segments, draws and writes. Both
are measured in turn, ``--rounds`` times. Reading and writing are done by threads, so the fraction is highest on two or
more free cores. Bar: 85 %.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from timing import describe_command

from iccld.data.image_files import read_image
from iccld.data.inputs import find_inputs, split_inputs
from iccld.files import write_json
from iccld.inference.media import predict_files
from iccld.inference.segmenter import load_segmenter
from iccld.reporting.environment import describe_code, describe_machine


def main() -> None:
    """Prints both times and the fraction. With ``--json``, writes a JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("folder")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    model = load_segmenter(a.model, device="cpu", threads=a.threads)
    items = split_inputs(find_inputs([a.folder], shared_names=True))[0][: a.count]
    images = [read_image(item.path) for item in items]
    for image in images[:3]:
        model.predict(image)
    network, whole = [], []
    for _ in range(a.rounds):
        begun = time.perf_counter()
        for image in images:
            model.predict(image)
        network.append(time.perf_counter() - begun)
        with tempfile.TemporaryDirectory() as out:
            begun = time.perf_counter()
            predict_files(model, items, out)
            whole.append(time.perf_counter() - begun)
    share = statistics.median(n / w for n, w in zip(network, whole, strict=True))
    facts = {
        "command": describe_command("predict_folder.py"),
        **describe_code(),
        "machine": describe_machine(a.threads, "cpu"),
        "images": len(images),
        "sizes": sorted({f"{image.shape[1]}x{image.shape[0]}" for image in images}),
        "network_seconds": network,
        "whole_seconds": whole,
        "network_share": share,
    }
    seconds = f"network {statistics.median(network):.1f} s, whole {statistics.median(whole):.1f} s"
    print(f"{len(images)} images: {seconds}, {share:.0%} in the network")
    if a.json is not None:
        write_json(a.json, facts)


if __name__ == "__main__":
    main()
