"""Cost of predicting a fleet's frames in object storage, computed from the cost of one frame on this machine.

    python benchmarks/fleet.py --model streets --json FILE

The frames are street scenes of 1080×1920 pixels as JPEG. Decoding, network and encoding of the label map are measured
for one frame on one core (median of ``--frames``). Requests, bytes, core hours and money follow from these figures and
from the prices, which are flags. The defaults are list prices of a large provider in 2026 in US dollars, for on-demand
cores. Latency and bandwidth of the storage are not included.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from timing import describe_command

from iccld.data.image_files import read_image, write_png
from iccld.data.street_scenes import StreetScenes
from iccld.files import write_json
from iccld.inference.segmenter import load_segmenter
from iccld.reporting.environment import describe_code, describe_machine

_COUNTS = (10**6, 10**8, 10**10)


def main() -> None:
    """Prints the cost of one frame and a table. With ``--json``, writes a JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="streets")
    parser.add_argument("--frames", type=int, default=15)
    parser.add_argument("--core-hour", type=float, default=0.04, help="price of a core for an hour")
    parser.add_argument("--million-gets", type=float, default=0.4, help="price of a million GET requests")
    parser.add_argument("--million-puts", type=float, default=5.0, help="price of a million PUT requests")
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    seconds, sizes = _measure(a.model, a.frames)
    whole = sum(seconds.values())
    print(", ".join(f"{name} {1000 * value:.0f} ms" for name, value in seconds.items()))
    print(f"frame {sizes[0] / 1e3:.0f} KB, label map {sizes[1] / 1e3:.0f} KB")
    print("\n| frames | GET | PUT | read | written | core hours | cores for a day | requests | cores |")
    print("|---|---|---|---|---|---|---|---|---|")
    for count in _COUNTS:
        puts = (
            count + 2 * count // 100
        )  # a label map for each frame, and record and table for each block of 100
        hours = count * whole / 3600
        requests = (count * a.million_gets + puts * a.million_puts) / 1e6
        print(
            f"| {count:.0e} | {count:.1e} | {puts:.1e} | {count * sizes[0] / 1e12:.3g} TB "
            f"| {count * sizes[1] / 1e12:.3g} TB | {hours:,.0f} | {hours / 24:,.0f} | ${requests:,.0f} "
            f"| ${hours * a.core_hour:,.0f} |"
        )
    if a.json:
        facts = {
            "command": describe_command("fleet.py"),
            **describe_code(),
            "machine": describe_machine(1, "cpu"),
        }
        write_json(a.json, {**facts, "seconds": seconds, "bytes": sizes})


def _measure(name: str, num_frames: int) -> tuple[dict[str, float], tuple[float, float]]:
    """Returns the seconds of each part of one frame, and the sizes of the frame and of its label map in bytes."""
    cv2.setNumThreads(1)
    model = load_segmenter(name, device="cpu", threads=1)
    scenes = StreetScenes("camera", num_frames, 360, 640, 11)
    times: dict[str, list[float]] = {"decode": [], "network": [], "encode": []}
    sizes = []
    with tempfile.TemporaryDirectory() as folder:
        frame, label = Path(folder, "frame.jpg"), Path(folder, "label.png")
        for index in range(num_frames):
            image = cv2.resize(scenes.image(index), (1920, 1080), interpolation=cv2.INTER_CUBIC)
            noisy = image + np.random.default_rng(index).normal(0, 3, image.shape)
            picture = np.ascontiguousarray(noisy.clip(0, 255).astype(np.uint8)[..., ::-1])
            cv2.imwrite(str(frame), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
            begun = [time.perf_counter()]
            decoded = read_image(frame)
            begun.append(time.perf_counter())
            prediction = model.predict(decoded)
            begun.append(time.perf_counter())
            write_png(label, prediction.labels)
            begun.append(time.perf_counter())
            for part, seconds in zip(times.values(), np.diff(begun), strict=True):
                part.append(float(seconds))
            sizes.append((frame.stat().st_size, label.stat().st_size))
    medians = {part: statistics.median(values[1:]) for part, values in times.items()}
    return medians, (statistics.median(s[0] for s in sizes), statistics.median(s[1] for s in sizes))


if __name__ == "__main__":
    main()
