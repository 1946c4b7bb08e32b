"""Throughput of ``iccld predict --shard`` with one and two processes, memory of a process, and repeated kills.

    python benchmarks/shards.py --images 2000 --kills 20 --json FILE
    python benchmarks/shards.py --images 50000 --size 64 96 --memory-only

The images are street scenes, each stored under many names. Process I of N runs on core I only,
because threads for reading and writing would otherwise use the other core. First, one process predicts all images, and
then two processes predict one shard each. In the last part, two processes are killed (SIGKILL) at random moments and
started again until all images are done. All three outputs are then compared file by file. ``lost`` and ``doubled``
count images without a row or with several rows in the table. Memory is the peak of a process, for the first tenth of
the images and for all of them.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from pyarrow import parquet
from timing import describe_command

from iccld.files import write_json
from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD
from iccld.reporting.environment import describe_code, describe_machine

_WORDS = ("--write", "labels", "table", "--threads", "1", "--device", "cpu", "--precision", "fp32")


def main() -> None:
    """Prints all figures. With ``--json``, writes a JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="by default, a small network with random weights")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument(
        "--size", type=int, nargs=2, default=(128, 256), help="height and width of the images"
    )
    parser.add_argument("--memory-only", action="store_true", help="only one process, without kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        if a.model is None:
            a.model = str(root / "model")
            torch.manual_seed(0)
            ICCLD(CAMVID11, width=16, latent_channels=4).save_pretrained(a.model)
        few, images = _make_images(root, a.images, a.size)
        _, peak_of_few = _finish([_start(a.model, few, root / "tenth", "0/1")])
        one, peak = _finish([_start(a.model, images, root / "one", "0/1")])
        if a.memory_only:
            print(
                f"{a.images} images in {one:.0f} s, {peak / 2**20:.0f} MiB; a tenth: {peak_of_few / 2**20:.0f} MiB"
            )
            return
        two, _ = _finish([_start(a.model, images, root / "two", f"{n}/2") for n in range(2)])
        kills = _kill_repeatedly(a.model, images, root / "killed", a.kills, random.Random(a.seed))
        counts = Counter(_names(root / "killed"))
        facts = {
            "command": describe_command("shards.py"),
            **describe_code(),
            "machine": describe_machine(1, "cpu"),
            "images": a.images,
            "seconds_with_one_process": round(one, 1),
            "seconds_with_two_processes": round(two, 1),
            "speedup": round(one / two, 2),
            "peak_mib_of_a_tenth": round(peak_of_few / 2**20),
            "peak_mib": round(peak / 2**20),
            "kills": kills,
            "lost": a.images - len(counts),
            "doubled": sum(count > 1 for count in counts.values()),
            "equal_label_maps": _labels(root / "one") == _labels(root / "two") == _labels(root / "killed"),
        }
    for name, value in facts.items():
        print(f"{name}: {value}")
    if a.json:
        write_json(a.json, facts)


def _make_images(root: Path, count: int, size: tuple[int, int]) -> tuple[Path, Path]:
    """Makes a folder of ``count`` images, and a folder of the first tenth of them. Returns the smaller folder first."""
    scenes = root / "scenes"
    words = ["--count", "50", "--look", "camera", "--height", str(size[0]), "--width", str(size[1])]
    subprocess.run([sys.executable, "-m", "street_scenes", str(scenes), *words], check=True)
    found = sorted(scenes.rglob("*_leftImg8bit.png"))
    for number in range(count):
        for folder in ("images", "few"):
            path = root / folder / f"{number // 1000:04d}" / f"{number:07d}.png"
            if folder == "images" or number < count // 10:
                path.parent.mkdir(parents=True, exist_ok=True)
                os.link(found[number % len(found)], path)
    return root / "few", root / "images"


def _start(model: str, images: Path, out: Path, shard: str) -> subprocess.Popen[bytes]:
    words = [
        sys.executable,
        "-m",
        "iccld",
        "predict",
        model,
        str(images),
        "--out",
        str(out),
        "--shard",
        shard,
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    core = int(shard.partition("/")[0])
    pinned = ["taskset", "-c", str(core), *words, *_WORDS]
    return subprocess.Popen(pinned, env=environment, stdout=subprocess.DEVNULL)


def _finish(processes: list[subprocess.Popen[bytes]]) -> tuple[float, int]:
    """Waits for processes. Returns the seconds, and the largest peak of resident memory in bytes."""
    begun, peaks = time.monotonic(), []
    for process in processes:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"a process ended with {process.returncode}")
        peaks.append(usage.ru_maxrss * 1024)
    return time.monotonic() - begun, max(peaks)


def _kill_repeatedly(model: str, images: Path, out: Path, kills: int, rng: random.Random) -> int:
    """Runs two shards and kills one of them at a random moment, ``kills`` times. Returns the number of kills."""
    done = 0
    processes = {n: _start(model, images, out, f"{n}/2") for n in range(2)}
    while done < kills:
        time.sleep(rng.uniform(2, 8))
        number = rng.randrange(2)
        if processes[number].poll() is None:
            processes[number].kill()
            done += 1
        elif all(process.poll() is not None for process in processes.values()):
            shutil.rmtree(out)  # everything was done before enough kills: once more
        processes[number].wait()
        processes[number] = _start(model, images, out, f"{number}/2")
    _finish(list(processes.values()))
    return done


def _names(out: Path) -> list[str]:
    return [
        name
        for path in out.glob("table/*/*.parquet")
        for name in parquet.read_table(path, columns=["name"])["name"].to_pylist()
    ]


def _labels(out: Path) -> dict[str, str]:
    paths = sorted((out / "labels").rglob("*.png"))
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


if __name__ == "__main__":
    main()
