"""Speed, agreement, memory and file size of int8 graphs compared with fp32.

    python benchmarks/int8.py streets CALIBRATION IMAGES --size 512 1024 --threads 1

The graphs are calibrated on images of the folder CALIBRATION, and measured on images of the folder IMAGES, which are
scaled to ``--size``. Without scaling inside (``--input-height 0``), the network sees this size. Torch in fp32, OpenVINO
in fp32 and OpenVINO in int8 are timed in turn. The agreement is the fraction of equal labels of both OpenVINO graphs,
which have the same noise. Bars: 2.5 times the speed of torch, 99.0 % equal labels.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from timing import describe_command

from iccld.data.image_files import read_image
from iccld.data.inputs import find_inputs, split_inputs
from iccld.files import write_json
from iccld.inference.export import export_model
from iccld.inference.exported import load_exported
from iccld.inference.segmenter import load_model
from iccld.reporting.environment import describe_code, describe_machine
from iccld.resizing import resize_image


def main() -> None:
    """Prints times and agreement. With ``--json``, writes a JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("calibration")
    parser.add_argument("images")
    parser.add_argument("--size", type=int, nargs=2, default=(512, 1024))
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    size = (a.size[0], a.size[1])
    calibration, images = _read(a.calibration, 100, size), _read(a.images, a.count, size)
    model = load_model(a.model, device="cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export_model(model, folder / "fp32.xml", "openvino", input_height=0)
        export_model(
            model, folder / "int8.xml", "openvino", input_height=0, precision="int8", calibration=calibration
        )
        graphs = {p: load_exported(str(folder / f"{p}.xml"), threads=a.threads) for p in ("fp32", "int8")}
        megabytes = {p: sum(f.stat().st_size for f in folder.glob(f"{p}.*")) / 1e6 for p in graphs}
    runs: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "torch fp32": lambda image: model.predict(image, precision="fp32", input_height=0).labels,
        "OpenVINO fp32": lambda image: graphs["fp32"].predict(image).labels,
        "OpenVINO int8": lambda image: graphs["int8"].predict(image).labels,
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    equal = []
    for number, image in enumerate([*images[:2], *images]):
        labels = {}
        for name, run in runs.items():
            begun = time.perf_counter()
            labels[name] = run(image)
            if number >= 2:  # the first two are a warm-up
                times[name].append(time.perf_counter() - begun)
        if number >= 2:
            equal.append(float((labels["OpenVINO fp32"] == labels["OpenVINO int8"]).mean()))
    medians = {name: statistics.median(own) for name, own in times.items()}
    facts = {
        "command": describe_command("int8.py"),
        **describe_code(),
        "machine": describe_machine(a.threads, "cpu"),
        "size": list(size),
        "seconds": medians,
        "speed": {name: medians["torch fp32"] / own for name, own in medians.items()},
        "equal_labels_percent": 100 * statistics.mean(equal),
        "megabytes": megabytes,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    for name, own in medians.items():
        print(f"{name}: {1000 * own:.1f} ms, {medians['torch fp32'] / own:.2f} times the speed of torch fp32")
    print(f"equal labels: {100 * statistics.mean(equal):.2f} %; MB: {megabytes}")
    if a.json is not None:
        write_json(a.json, facts)


def _read(folder: str, count: int, size: tuple[int, int]) -> list[np.ndarray]:
    """Reads up to ``count`` evenly spread images of a folder, scaled to ``size``."""
    items = split_inputs(find_inputs([folder], shared_names=True))[0]
    step = max(1, len(items) // count)
    return [resize_image(read_image(item.path), size) for item in items[::step][:count]]


if __name__ == "__main__":
    main()
