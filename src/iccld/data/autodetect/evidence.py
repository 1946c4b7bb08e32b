"""Statistics of sampled label maps: the number of pixels and the mean row of each id or color."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from iccld.data.image_files import Color, decode_label, is_gray, is_red
from iccld.data.softness import REMEDY, Softness, judge
from iccld.errors import InputError

NUM_SAMPLES = 64
"""Maximum number of label maps that are read. This number of label maps is read in one or two seconds."""
_MOST_PIXELS = 60_000_000
_MOST_VALUES = 254
_FAR = 40
"""Minimum difference between the dark and the bright gray value of soft masks that are converted to two values."""


@dataclass
class Evidence:
    """Statistics of the label maps that were read. Soft maps (``iccld.data.softness``) are compressed or interpolated.

    If soft maps were converted to black and one gray value, ``bright`` is this gray value. Otherwise, ``bright`` is 0.
    ``fault`` is the reason why a file cannot be a label map. If no such file was found, ``fault`` is empty.
    """

    num_files: int = 0  # number of label maps from which the sample was drawn
    num_read: int = 0  # number of label maps that were read
    num_gray: int = 0  # number of label maps with one channel in the file
    ids: Counter[int] = field(default_factory=Counter)  # id → number of pixels, in maps of ids
    rows: dict[int, float] = field(default_factory=dict)  # id → mean row, from 0 (top) to 1 (bottom)
    colors: Counter[Color] = field(default_factory=Counter)  # color → number of pixels, in color-coded maps
    palette: dict[int, Color] = field(default_factory=dict)  # id → color, in files with a palette
    soft: list[tuple[Path, Softness]] = field(default_factory=list)  # compressed or interpolated maps
    hard: set[int] = field(default_factory=set)  # ids or gray values in maps that are not soft
    bright: int = 0
    fault: str = ""


def read_evidence(files: Sequence[Path], count: int = NUM_SAMPLES) -> Evidence:
    """Reads at most ``count`` random label maps of ``files``. Stops earlier if the label maps are large."""
    evidence = Evidence(len(files))
    red: Counter[int] = Counter()
    pixels = 0
    for path in random.Random(0).sample(list(files), min(count, len(files))):
        if pixels > _MOST_PIXELS:
            break
        try:
            pixels += _read(path, evidence, red)
        except InputError as error:
            evidence.fault = evidence.fault or str(error)
            continue
        evidence.num_read += 1
        if max(len(evidence.colors), len(evidence.ids) - 2) > _MOST_VALUES:
            if not any(softness.levels for _, softness in evidence.soft):
                found = f"{len(evidence.colors)} colors" if evidence.colors else f"{len(evidence.ids)} ids"
                evidence.fault = f"{path}: there are {found}, as in photographs, smoothed or instance masks"
            break
    evidence.rows = {i: total / evidence.ids[i] for i, total in evidence.rows.items()}
    if not evidence.colors:
        evidence.ids.update(red)
    else:
        # Since some maps contain colors, maps with only red or only gray pixels are probably color-coded too. However,
        # gray values are still counted as ids if a file has only one channel.
        evidence.colors.update({(i, 0, 0): pixels for i, pixels in red.items()})
        if not evidence.num_gray:
            evidence.colors.update({(i, i, i): pixels for i, pixels in evidence.ids.items()})
            evidence.ids.clear()
    if evidence.soft and not evidence.fault:
        _read_as_two_grays(evidence)
    return evidence


def _read_as_two_grays(evidence: Evidence) -> None:
    """Converts the ids of soft masks to black and one gray value. If this is impossible, sets ``evidence.fault``."""
    levels = {level for _, softness in evidence.soft for level in softness.levels if isinstance(level, int)}
    levels |= evidence.hard
    low, high = min(levels, default=0), max(levels, default=0)
    reach = (high - low) // 8
    alike = all(level - low <= reach or high - level <= reach for level in levels)
    if not evidence.colors and alike and low < _FAR / 2 < _FAR <= high - low and high < 256:
        bright = sum(count for i, count in evidence.ids.items() if 2 * i > high)
        evidence.ids = Counter({0: evidence.ids.total() - bright, high: bright})
        evidence.bright = high
        return
    path, softness = evidence.soft[0]
    more = f" (so do {len(evidence.soft) - 1} others)" if len(evidence.soft) > 1 else ""
    evidence.fault = f"{path}: {softness.text}{more}; {REMEDY}"


def _read(path: Path, evidence: Evidence, red: Counter[int]) -> int:
    """Adds the pixels of a file to ``evidence``, and returns the number of pixels.

    If only the red channel of an RGB file is not 0, the pixels are counted in ``red``.
    """
    raw, palette = decode_label(path)
    height, width = raw.shape[:2]
    evidence.num_gray += raw.ndim == 2
    if raw.ndim == 3 and is_gray(raw):
        raw = raw[:, :, 0]
    shown = palette[raw] if raw.max(initial=0) < len(palette) else raw
    softness = judge(shown)
    if softness is not None:
        evidence.soft.append((path, softness))
    elif shown.ndim == 2:
        evidence.hard.update(np.unique(shown).tolist())
    if raw.ndim == 3 and is_red(raw):
        red.update(_counts(raw[:, :, 0]))
    elif raw.ndim == 3:
        packed = _counts(raw.astype(np.uint32) @ np.array([65536, 256, 1], dtype=np.uint32))
        evidence.colors.update({(v >> 16, v >> 8 & 255, v & 255): count for v, count in packed.items()})
    else:
        counts = _counts(raw)
        evidence.ids.update(counts)
        evidence.palette |= {i: (*palette[i].tolist(),) for i in counts if i < len(palette)}
        heights = np.broadcast_to((np.arange(height) + 0.5)[:, None] / height, raw.shape)
        sums = np.bincount(raw.ravel(), heights.ravel())
        for raw_id in counts:
            evidence.rows[raw_id] = evidence.rows.get(raw_id, 0.0) + float(sums[raw_id])
    return height * width


def _counts(values: np.ndarray) -> dict[int, int]:
    """Returns value → number of pixels."""
    # The lengths of runs of equal pixels are summed, because a sort of all pixels would take longer.
    flat = values.ravel()
    ends = np.flatnonzero(np.append(flat[1:] != flat[:-1], True))
    found, places = np.unique(flat[ends], return_inverse=True)
    counts = np.bincount(places, np.diff(ends, prepend=-1))
    return dict(zip(found.tolist(), counts.astype(int).tolist(), strict=True))
