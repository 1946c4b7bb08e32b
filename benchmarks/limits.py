"""Peak performance of this machine: ``python benchmarks/limits.py --threads 1``.

Measures matrix products and 3×3 convolutions in fp32 and bf16 (FLOP/s, where a multiplication and an addition count as
two), memory copies (bytes read and written per second), and the decoding of PNG and JPEG (megapixels per second on one
core). The fastest of several repeats counts. Other benchmarks compute their utilization from the file that this script
writes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from timing import fastest

from iccld.data.street_scenes import StreetScenes
from iccld.files import write_json
from iccld.reporting.environment import describe_code, describe_machine

OUT = Path(__file__).parent / "performance" / "limits.json"
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def main() -> None:
    """Measures the limits, prints a table and writes a JSON file."""
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
        for precision in PRECISIONS:
            figures |= measure_peaks(precision, arguments.repeats)
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


@torch.inference_mode()
def measure_peaks(precision: str, repeats: int, device: str = "cpu") -> dict[str, float]:
    """Measures the GFLOP/s of matrix products and of 3×3 convolutions.

    Args:
        precision: Precision, ``fp32`` or ``bf16``.
        repeats: Number of repeats, of which the fastest counts.
        device: Device, ``cpu`` or ``cuda``.

    Returns:
        Name of the operation → GFLOP/s.
    """
    figures = {f"matmul_{precision}_gflops": _matmul(precision, repeats, device)}
    for channels in (64, 256):
        figures[f"conv3x3_{channels}_{precision}_gflops"] = _conv(precision, channels, repeats, device)
    return figures


def _matmul(precision: str, repeats: int, device: str) -> float:
    size = 8192 if device == "cuda" else 1024  # A GPU is fully used only with large matrices.
    a, b = (torch.randn(size, size, device=device).to(PRECISIONS[precision]) for _ in "ab")
    return 2 * size**3 / fastest(lambda: a @ b, repeats, device) / 1e9


def _conv(precision: str, channels: int, repeats: int, device: str) -> float:
    height, width = 8192 // channels, 64  # the work grows linearly with the channels
    batch = 128 if device == "cuda" else 4
    x, weight = (
        torch.randn(shape, device=device)
        .to(PRECISIONS[precision])
        .contiguous(memory_format=torch.channels_last)
        for shape in ((batch, channels, height, width), (channels, channels, 3, 3))
    )
    seconds = fastest(lambda: F.conv2d(x, weight, padding=1), repeats, device)
    return 2 * 9 * channels**2 * batch * height * width / seconds / 1e9


def _copy(repeats: int, megabytes: int = 256) -> float:
    source = torch.ones(megabytes * 2**18)
    target = torch.empty_like(source)
    return 2 * source.nbytes / fastest(lambda: target.copy_(source), repeats) / 1e9


def _decode(kind: str, repeats: int) -> float:
    """Measures the megapixels per second of decoding a street scene in the size of Cityscapes.

    A street scene is used because noise would be slower to decode than a photograph.
    """
    image = StreetScenes("camera", count=1, height=512, width=1024).image(0)
    image = cv2.resize(image, (2048, 1024), interpolation=cv2.INTER_CUBIC)
    cv2.setNumThreads(1)
    done, data = cv2.imencode(f".{kind}", image)
    assert done
    seconds = fastest(lambda: cv2.imdecode(np.asarray(data), cv2.IMREAD_COLOR), repeats)
    return image.shape[0] * image.shape[1] / seconds / 1e6


if __name__ == "__main__":
    main()
