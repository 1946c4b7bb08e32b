"""What this machine can do at best: ``python benchmarks/limits.py --threads 1``.

Measures, the fastest of several repeats each: matrix products and 3×3 convolutions in fp32 and bf16 (FLOP/s, a
multiply and an add count as two), copying memory (bytes read and written per second), and decoding PNG and JPEG
(megapixels per second on one core). Other benchmarks quote their utilization against the file that this writes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from iccld.data.street_scenes import StreetScenes
from iccld.files import write_json
from iccld.reporting.environment import describe_code, describe_machine

OUT = Path(__file__).parent / "limits.json"
_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def main() -> None:
    """Measures, prints a table and writes JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    figures: dict[str, float] = {}
    with torch.inference_mode():
        for name, dtype in _PRECISIONS.items():
            figures[f"matmul_{name}_gflops"] = _matmul(dtype, arguments.repeats)
            for channels in (64, 256):
                figures[f"conv3x3_{channels}_{name}_gflops"] = _conv(dtype, channels, arguments.repeats)
    figures["copy_gb_per_s"] = _copy(arguments.repeats)
    figures |= {f"decode_{kind}_mpixel_per_s": _decode(kind, arguments.repeats) for kind in ("png", "jpg")}
    for name, value in figures.items():
        print(f"{name:>28}: {value:10.1f}")
    facts = {
        "command": f"python benchmarks/limits.py --threads {arguments.threads} --repeats {arguments.repeats}",
        **describe_code(),
        "machine": describe_machine(arguments.threads, "cpu"),
        "figures": {name: round(value, 2) for name, value in figures.items()},
    }
    print(f"written: {write_json(arguments.out, facts)}")


def _fastest(work: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest repeat, the first ones aside."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times[2:])


def _matmul(dtype: torch.dtype, repeats: int, size: int = 1024) -> float:
    a, b = (torch.randn(size, size).to(dtype) for _ in "ab")
    return 2 * size**3 / _fastest(lambda: a @ b, repeats) / 1e9


def _conv(dtype: torch.dtype, channels: int, repeats: int) -> float:
    height, width = 8192 // channels, 64  # about the same work for every number of channels squared
    x = torch.randn(4, channels, height, width).to(dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, 3, 3).to(dtype).contiguous(memory_format=torch.channels_last)
    seconds = _fastest(lambda: F.conv2d(x, weight, padding=1), repeats)
    return 2 * 9 * channels**2 * 4 * height * width / seconds / 1e9


def _copy(repeats: int, megabytes: int = 256) -> float:
    source = torch.ones(megabytes * 2**18)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _fastest(lambda: target.copy_(source), repeats) / 1e9


def _decode(kind: str, repeats: int) -> float:
    """Of a street scene in Cityscapes' size: noise would be harder to decode than any photograph."""
    image = StreetScenes("camera", count=1, height=512, width=1024).image(0)
    image = cv2.resize(image, (2048, 1024), interpolation=cv2.INTER_CUBIC)
    cv2.setNumThreads(1)
    done, data = cv2.imencode(f".{kind}", image)
    assert done
    seconds = _fastest(lambda: cv2.imdecode(np.asarray(data), cv2.IMREAD_COLOR), repeats)
    return image.shape[0] * image.shape[1] / seconds / 1e6


if __name__ == "__main__":
    main()
