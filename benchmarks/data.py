"""Speed of loading training data: ``python benchmarks/data.py --json out.json``.

Writes a few images of GTA5, SYNTHIA and Cityscapes in the real sizes and file formats (``benchmarks/full_size.py``) to
a temporary folder. Then measures images per second on one core, with all ways in turn within one process. "Reading"
decodes the image and the label map. "Sample" makes a whole training sample: decoded, resized to the usual base size,
cropped at random to 512×512 and flipped, with the label map in trainIds. Three ways are compared:

- ICCLD: ``iccld.data.loaders.SampleStream`` as in training, including the checks of the files and the validity mask.
  The images are uint8. They are normalized on the device.
- ICCLD with the cache (``--data.cache``), which is filled beforehand.
- PIL and numpy, as in the data sets of AdaptSegNet and ADVENT: bicubic resizing, label maps that are resized and then
  mapped class by class to a float map, and images as float32 in BGR order with the mean subtracted. The crop and the
  flip of later recipes (DACS, DAFormer) are added. PIL cannot read SYNTHIA's 16-bit label maps, so OpenCV reads them.

Also measures the rendering of street scenes at the demo's size, and the time that a training step of the demo waits
for the data loaders with one worker process each.

Bars: 3 times as fast as PIL and numpy, 30 scenes/s after warm-up, at most 5 % of a training step spent waiting.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import full_size
import numpy as np
import torch
from PIL import Image
from step_times import make_step
from timing import WARM_UP, describe_command, seconds_of, take_turns

from iccld.build import build_fabric, build_loaders, build_method
from iccld.config import with_settings
from iccld.data.cache import CachedDataset
from iccld.data.datasets import FileDataset, find_files
from iccld.data.interface import SegmentationDataset
from iccld.data.loaders import SampleStream, UniformSampler
from iccld.data.street_scenes import StreetScenes
from iccld.data.transforms import TrainTransform
from iccld.files import write_json
from iccld.labels import CITYSCAPES19, IGNORE
from iccld.presets import get_preset
from iccld.reporting.environment import describe_code, describe_machine
from iccld.run_data import build_data, build_label_space

CROP = (512, 512)
SCENES_WARM_UP, SCENES_COUNTED = 24, 24
OURS, CACHED, PEERS = "ICCLD", "ICCLD, cached", "PIL and numpy"
_BGR_MEAN = np.array((104.00698793, 116.66876762, 122.67891434), np.float32)

Work = Callable[[], object]


def main() -> None:
    """Measures the speeds and prints tables. With ``--json``, writes a JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=6, help="of each data set")
    parser.add_argument("--repeats", type=int, default=5, help="rounds over the images")
    parser.add_argument("--steps", type=int, default=20, help="training steps")
    parser.add_argument("--json", type=Path, default=None, help="write the figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    load = os.getloadavg()[0]
    rates = {name: _measure_files(name, arguments) for name in full_size.DATA_SETS}
    scenes = {look: _measure_scenes(look) for look in ("game", "camera")}
    waiting = _measure_waiting(arguments.steps)
    facts = {
        "command": describe_command("data.py"),
        **describe_code(),
        "machine": describe_machine(1, "cpu"),
        "load_before": round(load, 2),
        "images": arguments.images,
        "repeats": arguments.repeats,
        "crop": CROP,
        "images_per_s": rates,
        "street_scenes": scenes,
        "waiting": waiting,
        "ratios": _ratios(rates, scenes, waiting),
    }
    _show(facts)
    if arguments.json is not None:
        print(f"written: {write_json(arguments.json, facts)}")


def _measure_files(name: str, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Measures the images per second of each way, for reading and for samples, and the mean file size of an image."""
    kind = full_size.DATA_SETS[name]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        full_size.write_files(root, kind, arguments.images)
        files = FileDataset(find_files(name, root, "train", True), CITYSCAPES19)
        work: dict[str, Work] = {}
        for way, make in WAYS.items():
            read, sample = make(files, kind)
            work[f"{way}, reading"] = _each(read, arguments.images)
            work[f"{way}, sample"] = _each(sample, arguments.images)
        times = take_turns(work, arguments.repeats, warm_up=1)
        pairs = files.layout.pairs
        megabytes = statistics.fmean(pair.image.stat().st_size for pair in pairs) / 1e6
    medians = {key: arguments.images / statistics.median(seconds) for key, seconds in times.items()}
    rows = {
        way: {part: round(medians[f"{way}, {part}"], 2) for part in ("reading", "sample")} for way in WAYS
    }
    return {"files": {"image_megabytes": round(megabytes, 2)}, **rows}


def _each(do: Callable[[int], object], count: int) -> Work:
    """Returns a function that calls ``do`` once for each image. In a round, all ways process the same images."""
    epoch = iter(range(sys.maxsize))

    def run() -> None:
        first = next(epoch) * count
        for number in range(first, first + count):
            do(number)

    return run


def _stream(dataset: SegmentationDataset, kind: full_size.DataSet) -> SampleStream:
    sampler = UniformSampler(len(dataset), seed=0)
    return SampleStream(dataset, TrainTransform(CROP, resize=kind.base), sampler, 0, True, 0)


def _ours(files: FileDataset, kind: full_size.DataSet) -> tuple[Callable[[int], object], ...]:
    def read(number: int) -> object:
        index = number % len(files)
        return files.image(index), files.raw_label(index)

    return read, _stream(files, kind).__getitem__


def _cached(files: FileDataset, kind: full_size.DataSet) -> tuple[Callable[[int], object], ...]:
    cache = CachedDataset(files, files.layout.root / "cache", kind.base)
    cache.fill(jobs=1)

    def read(number: int) -> object:
        index = number % len(files)
        return np.array(cache.image(index)), np.array(cache.label(index))

    return read, _stream(cache, kind).__getitem__


def _peers(files: FileDataset, kind: full_size.DataSet) -> tuple[Callable[[int], object], ...]:
    rng = np.random.default_rng(0)
    pairs, base = files.layout.pairs, (kind.base[1], kind.base[0])
    classes = [(raw, label) for raw, label in kind.ids.items() if label != IGNORE]

    def open_label(number: int) -> Image.Image:
        path = pairs[number % len(pairs)].label
        if files.name == "synthia":
            channels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert channels is not None, path
            return Image.fromarray(channels[:, :, 2])
        assert path is not None
        return Image.open(path)

    def read(number: int) -> object:
        with Image.open(pairs[number % len(pairs)].image) as image, open_label(number) as label:
            return np.asarray(image.convert("RGB")), np.asarray(label)

    def sample(number: int) -> dict[str, object]:
        pair = pairs[number % len(pairs)]
        with Image.open(pair.image) as opened, open_label(number) as map_:
            image = np.asarray(opened.convert("RGB").resize(base, Image.Resampling.BICUBIC), np.float32)
            raw = np.asarray(map_.resize(base, Image.Resampling.NEAREST), np.float32)
        label = np.full(raw.shape, IGNORE, np.float32)
        for raw_id, train_id in classes:
            label[raw == raw_id] = train_id
        top = rng.integers(raw.shape[0] - CROP[0] + 1)
        left = rng.integers(raw.shape[1] - CROP[1] + 1)
        image = image[top : top + CROP[0], left : left + CROP[1], ::-1] - _BGR_MEAN
        label = label[top : top + CROP[0], left : left + CROP[1]]
        if rng.random() < 0.5:
            image, label = image[:, ::-1], label[:, ::-1]
        return {
            "image": torch.from_numpy(image.transpose(2, 0, 1).copy()),
            "label": torch.from_numpy(label.astype(np.int64)),
            "name": pair.name,
        }

    return read, sample


WAYS: Mapping[str, Callable[[FileDataset, full_size.DataSet], tuple[Callable[[int], object], ...]]] = {
    OURS: _ours,
    CACHED: _cached,
    PEERS: _peers,
}
"""Way → factory of the two functions that are timed, reading and sample. Both accept the number of an image."""


def _measure_scenes(look: str) -> dict[str, float]:
    """Measures scenes per second on one core at the demo's size. The first scenes are slower: they fill caches."""
    scenes = StreetScenes(look, count=SCENES_WARM_UP + SCENES_COUNTED, height=128, width=256)
    seconds = [seconds_of(lambda i=i: scenes.image(i)) for i in range(len(scenes))]  # type: ignore[misc]
    first, rest = seconds[:SCENES_WARM_UP], seconds[SCENES_WARM_UP:]
    return {
        "warm_up_scenes": SCENES_WARM_UP,
        "warm_up_s": round(sum(first), 2),
        "first_scene_s": round(seconds[0], 3),
        "scenes_per_s": round(1 / statistics.fmean(rest), 1),
        "median_scenes_per_s": round(1 / statistics.median(rest), 1),
    }


def _measure_waiting(steps: int) -> dict[str, float]:
    """Measures the time of the demo's training steps, and the waiting time for source and target data.

    Source and target have one worker process each.
    """
    counts = {"data.source_count": 48, "data.target_count": 48, "data.val_count": 1}
    settings = {"threads": 1, "data.num_workers": 1, **counts}
    config = with_settings(get_preset("demo").config, settings)
    step = make_step(config)
    method = build_method(config, build_label_space(config.data))
    with tempfile.TemporaryDirectory() as folder:
        loaders = build_loaders(
            config, build_data(config, method), method, build_fabric(config), Path(folder)
        )
        ends = WARM_UP + steps
        batches = [loaders.labeled(0, ends)]
        if loaders.target is not None:
            batches.append(loaders.target(0, ends))
        waits, works = [], []
        for _ in range(ends):
            waits.append(seconds_of(lambda: [next(stream) for stream in batches]))
            works.append(seconds_of(step))
    waited, worked = (statistics.fmean(values[WARM_UP:]) for values in (waits, works))
    return {
        "workers": len(batches),
        "cores": os.cpu_count() or 1,
        "step_ms": round(1e3 * worked, 2),
        "wait_ms": round(1e3 * waited, 2),
        "share": round(waited / (waited + worked), 4),
    }


def _ratios(
    rates: Mapping[str, Mapping[str, Mapping[str, float]]],
    scenes: Mapping[str, Mapping[str, float]],
    waiting: Mapping[str, float],
) -> dict[str, tuple[float, str]]:
    """Returns name → (ratio, bar of the ratio)."""
    ratios = {}
    for part, bar in (("sample", "≥ 3"), ("reading", "–")):
        for name, rows in rates.items():
            for way in (OURS, CACHED):
                ratio = rows[way][part] / rows[PEERS][part]
                ratios[f"{name}, {part}: {way} / {PEERS}"] = (round(ratio, 3), bar)
    for look, row in scenes.items():
        ratios[f"street scenes/s, {look}"] = (row["scenes_per_s"], "≥ 30")
    ratios["waiting / step"] = (waiting["share"], "< 0.05")
    return ratios


def _show(facts: Mapping[str, Any]) -> None:
    machine, waiting = facts["machine"], facts["waiting"]
    print(
        f"{machine['cpu']}, 1 thread, {machine['cores']} cores with a load of {facts['load_before']:.1f} before, "
        f"images/s, median of {facts['repeats']} × {facts['images']} images"
    )
    print(f"{'':>28}  {'reading':>9} {'sample':>9}")
    for name, rows in facts["images_per_s"].items():
        for way in WAYS:
            row = rows[way]
            print(f"{name + ', ' + way:>28}: {row['reading']:9.1f} {row['sample']:9.1f}")
        print(f"{'':>28}  images of {rows['files']['image_megabytes']:.1f} MB")
    for look, row in facts["street_scenes"].items():
        print(
            f"{'scenes, ' + look:>28}: {row['scenes_per_s']:.1f}/s on average "
            f"({row['median_scenes_per_s']:.1f} median) "
            f"after a warm-up of {row['warm_up_scenes']} scenes in {row['warm_up_s']:.1f} s"
        )
    print(
        f"{'training step':>28}: {waiting['step_ms']:.1f} ms and {waiting['wait_ms']:.1f} ms of waiting for "
        f"{waiting['workers']} workers, {waiting['cores']} cores"
        + (" (workers and step share them)" if waiting["cores"] <= waiting["workers"] else "")
    )
    for name, (value, bar) in facts["ratios"].items():
        print(f"{name:>52}: {value:7.3f}  (bar: {bar})")


if __name__ == "__main__":
    main()
