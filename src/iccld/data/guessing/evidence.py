"""What a sample of the label maps holds: ids or colors, how often and where in the image."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from iccld.data.image_files import Color, open_label, read_label
from iccld.errors import InputError

NUM_SAMPLES = 64
"""Label maps that are read: they are spread over the set, and reading takes a second or two."""
_MOST_PIXELS = 60_000_000
_MOST_COLORS = 254


@dataclass
class Evidence:
    """What was found in the label maps that were read.

    Attributes:
        num_files: label maps there are.
        num_read: label maps that were read.
        num_gray: those among them that have one channel in the file.
        ids: id → pixels, for maps of one channel.
        rows: id → mean row of its pixels, 0 (top) to 1 (bottom).
        colors: RGB color → pixels, for maps of three channels.
        palette: id → color, where the files have a palette.
        fault: why a file cannot be a label map; empty if all can.
    """

    num_files: int = 0
    num_read: int = 0
    num_gray: int = 0
    ids: Counter[int] = field(default_factory=Counter)
    rows: dict[int, float] = field(default_factory=dict)
    colors: Counter[Color] = field(default_factory=Counter)
    palette: dict[int, Color] = field(default_factory=dict)
    fault: str = ""


def read_evidence(files: Sequence[Path], count: int = NUM_SAMPLES) -> Evidence:
    """Reads up to ``count`` label maps, spread over the files; fewer where they are huge."""
    evidence = Evidence(len(files))
    sums: defaultdict[int, float] = defaultdict(float)
    pixels = 0
    num = min(count, len(files))
    for step in _spread_order(num):
        path = files[step * len(files) // num]
        if pixels > _MOST_PIXELS:
            break
        try:
            pixels += _read(path, evidence, sums)
        except InputError as error:
            evidence.fault = evidence.fault or str(error)
            continue
        evidence.num_read += 1
        if len(evidence.colors) > _MOST_COLORS or len(evidence.ids) > _MOST_COLORS + 2:
            kinds, most = ("colors", len(evidence.colors)) if evidence.colors else ("ids", len(evidence.ids))
            evidence.fault = (
                f"{path}: there are {most} {kinds}, as in photographs, smoothed or instance masks"
            )
            break
    evidence.rows = {i: sums[i] / evidence.ids[i] for i in evidence.ids}
    if evidence.colors and not evidence.num_gray:
        # Color-coded maps that show black or gray classes alone.
        evidence.colors.update({(i, i, i): count for i, count in evidence.ids.items()})
        evidence.ids.clear()
    return evidence


def _spread_order(count: int) -> list[int]:
    """0 … count − 1, coarsely spread ones first, so that any beginning covers the whole."""
    order: list[int] = []
    stride = 1 << max(0, count - 1).bit_length()
    while stride >= 1:
        order += [i for i in range(0, count, stride) if i not in order]
        stride //= 2
    return order


def _read(path: Path, evidence: Evidence, sums: defaultdict[int, float]) -> int:
    """Adds one file to the evidence; returns its pixels."""
    with open_label(path) as (image, header):
        palette = _palette(image)
        if image.mode not in ("RGB", "RGBA", "RGBX"):
            evidence.num_gray += 1
        elif header.bits != 16:  # SYNTHIA's files of 16 bits hold ids
            rgb = np.asarray(image.convert("RGB"))
            is_gray = (rgb[..., 0] == rgb[..., 1]) & (rgb[..., 1] == rgb[..., 2])
            if not is_gray.all():
                _count_colors(rgb, evidence)
                return rgb.shape[0] * rgb.shape[1]
    raw = read_label(path)
    counts = np.bincount(raw.ravel())
    for raw_id in np.flatnonzero(counts).tolist():
        evidence.ids[raw_id] += int(counts[raw_id])
        evidence.palette.update({raw_id: palette[raw_id]} if raw_id < len(palette) else {})
    rows = np.broadcast_to((np.arange(raw.shape[0]) + 0.5)[:, None] / raw.shape[0], raw.shape)
    weighted = np.bincount(raw.ravel(), rows.ravel())
    for raw_id in np.flatnonzero(counts).tolist():
        sums[raw_id] += float(weighted[raw_id])
    return int(raw.size)


def _palette(image: Image.Image) -> list[Color]:
    """The colors of a palette file; none of others."""
    flat = (image.getpalette("RGB") or []) if image.mode == "P" else []
    return [(flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat) - 2, 3)]


def _count_colors(rgb: np.ndarray, evidence: Evidence) -> None:
    packed = (rgb.astype(np.uint32) @ np.array([65536, 256, 1], dtype=np.uint32)).ravel()
    # Label maps are flat: runs of one color are counted at their ends, which leaves little to sort.
    ends = np.flatnonzero(np.append(packed[1:] != packed[:-1], True))
    lengths = np.diff(ends, prepend=-1)
    values, places = np.unique(packed[ends], return_inverse=True)
    counts = np.bincount(places, lengths)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        evidence.colors[(value >> 16, value >> 8 & 255, value & 255)] += int(count)
