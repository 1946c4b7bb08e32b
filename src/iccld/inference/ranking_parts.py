"""Rankings in parts: each process scores the frames of a shard, and one call ranks the frames of all parts."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from iccld.data.inputs import InputImage, InputVideo
from iccld.documents import Length, Range, build, parse_json, reason
from iccld.errors import InputError
from iccld.files import AnyPath
from iccld.inference.ranking import Candidate
from iccld.models.storage import atomic_safetensors, check_header
from iccld.shards import Shard

PARTS = "parts"
"""Folder of the parts in the output folder."""
_NAMES = "{}.safetensors"


@dataclass(frozen=True)
class _Frame:
    file: str
    frame: Annotated[int, Range(0, 10**12)] | None = None


@dataclass(frozen=True)
class _Facts:
    """What the JSON in a part contains. ``identity`` is a hash of model and settings."""

    identity: str
    frames: Annotated[tuple[_Frame, ...], Length(20_000_000)]
    failures: Annotated[tuple[str, ...], Length(20_000_000)] = ()


def write_part(
    out: Path, shard: Shard, identity: str, candidates: Sequence[Candidate], failures: Sequence[str]
) -> Path:
    """Writes the scores and embeddings of a shard's frames to a file in ``out/parts``, and returns its path."""
    frames = [{"file": candidate.file, "frame": candidate.frame} for candidate in candidates]
    facts = json.dumps({"identity": identity, "frames": frames, "failures": list(failures)})
    vectors = [candidate.vector for candidate in candidates]
    tensors: dict[str, np.ndarray] = {
        "facts": np.frombuffer(facts.encode(), np.uint8),
        "scores": np.array([candidate.score for candidate in candidates], np.float64),
        "vectors": np.stack(vectors) if vectors else np.zeros((0, 0), np.float32),
    }
    path = out / PARTS / _NAMES.format(shard.folder)
    return atomic_safetensors(path, lambda temporary: save_file(tensors, temporary))


def read_parts(
    out: Path, identity: str, items: Sequence[InputImage | InputVideo]
) -> tuple[list[Candidate], list[str]]:
    """Reads all parts in ``out/parts``.

    Returns:
        The candidates in the order of ``items``, and the messages about files that could not be read.

    Raises:
        InputError: A part is missing or damaged, was written with another model or settings, or contains a file that
            is not in ``items``.
    """
    found_paths = sorted((out / PARTS).glob(_NAMES.format("*-of-*")))
    paths = [path for path in found_paths if re.fullmatch(r"[0-9]{1,7}-of-[1-9][0-9]{0,5}", path.stem)]
    if not paths:
        raise InputError(f"{out / PARTS}: has no parts; write them with iccld rank --shard I/N")
    count = paths[0].stem.partition("-of-")[2]
    other = next((path for path in paths if path.stem.partition("-of-")[2] != count), None)
    if other:
        raise InputError(
            f"{other}: is a part of another number of parts than {paths[0].name}; remove one of them"
        )
    missing = {f"{index}-of-{count}" for index in range(int(count))} - {path.stem for path in paths}
    if missing:
        index = min(int(name.partition("-")[0]) for name in missing)
        raise InputError(
            f"{out / PARTS}: part {index}/{count} is missing; write it with --shard {index}/{count}"
        )
    places = {item.title: (number, item) for number, item in enumerate(items)}
    found: list[tuple[int, Candidate]] = []
    failures: list[str] = []
    for path in paths:
        facts, scores, vectors = _read(path)
        if facts.identity != identity:
            raise InputError(f"{path}: was written with another model or other settings; write it again")
        for frame, score, vector in zip(facts.frames, scores, vectors, strict=True):
            if frame.file not in places:
                raise InputError(f"{path}: contains {frame.file}, which is not among the inputs; name it too")
            number, item = places[frame.file]
            found.append((number, Candidate(item, frame.frame, float(score), vector)))
        failures += facts.failures
    counted = {number for number, _ in found}
    unread = " ".join(failures)
    lost = next(
        (item.title for n, item in enumerate(items) if n not in counted and item.title not in unread), None
    )
    if lost is not None:
        raise InputError(f"{lost}: is in no part, as it is new; write the parts again with --shard")
    found.sort(key=lambda entry: (entry[0], entry[1].frame or 0))
    return [candidate for _, candidate in found], failures


def _read(path: AnyPath) -> tuple[_Facts, np.ndarray, np.ndarray]:
    path = Path(path)
    try:
        check_header(path)
        tensors = load_file(path)
        facts = build(_Facts, parse_json(tensors["facts"].tobytes(), str(path)), str(path))
        scores, vectors = tensors["scores"], tensors["vectors"]
        if scores.shape != (len(facts.frames),) or vectors.ndim != 2 or len(vectors) != len(scores):
            raise ValueError("the arrays have wrong sizes")
        if not np.isfinite(scores).all() or not np.isfinite(vectors).all():
            raise ValueError("a number is not finite")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is damaged ({reason(error, path)}); write this part again") from error
    return facts, scores, vectors
