"""Evaluations in parts: each process evaluates the images of a shard, and the counts of all parts are added."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iccld.documents import build, read_json, reason
from iccld.errors import InputError
from iccld.inference.review import Trust, TrustCounts
from iccld.metrics import Scores, combine
from iccld.shards import Shard, parse_shard

_LARGEST_PART = 64_000_000
_OF_PART = ("shard", "identity", "counts")
"""Keys of a part that the merged result does not have."""
_MAY_DIFFER = ("model", "root", "shard", "counts")
"""Facts that may differ between parts: paths, which depend on the machine, and the counts themselves."""


def part_facts(shard: Shard, identity: str, trust: Trust) -> dict[str, Any]:
    """Returns the values that the JSON file of a part has in addition to the scores."""
    return {"shard": str(shard), "identity": identity, "counts": trust.to_json()}


def merge_parts(paths: Sequence[Path]) -> tuple[Scores, Trust, dict[str, Any]]:
    """Adds the parts that ``iccld evaluate --shard I/N --json`` wrote.

    Integers are equal to those of one process. Sums of probabilities can differ by rounding (relative error 1e-12).

    Returns:
        The scores, the calibration data, and the other facts of the first part.

    Raises:
        InputError: A file is no part, a part is missing or is given twice, or the parts belong to other evaluations.
    """
    parts: dict[int, tuple[Path, Scores, TrustCounts, dict[str, Any]]] = {}
    count = 0
    for path in paths:
        shard, scores, counts, facts = _read(path)
        count = count or shard.count
        if shard.count != count:
            raise InputError(
                f"{path}: is part {shard}, and {paths[0]} one of {count} parts; give parts of one call"
            )
        if shard.index in parts:
            raise InputError(f"{path}: is part {shard}, as is {parts[shard.index][0]}; give each part once")
        parts[shard.index] = path, scores, counts, facts
    missing = [index for index in range(count) if index not in parts]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(f"part {missing[0]}/{count}{more} is missing; give all {count} files to --merge")
    first_path, first, _, first_facts = parts[0]
    trust = Trust()
    for index in range(count):
        path, scores, counts, facts = parts[index]
        differing = [
            key for key in first_facts if facts.get(key) != first_facts[key] and key not in _MAY_DIFFER
        ]
        if differing or scores.measure != first.measure:
            what = differing[0] if differing else "classes"
            raise InputError(f"{path}: has another {what} than {first_path}; evaluate it again as the others")
        trust.add(counts)
    scores = combine([parts[index][1] for index in range(count)])
    if not any(map(sum, scores.confusion)) and not sum(scores.unlabeled):
        raise InputError(f"{first_path}: no part has a labeled pixel; check the labels or the protocol")
    return scores, trust, {key: value for key, value in first_facts.items() if key not in _OF_PART}


def _read(path: Path) -> tuple[Shard, Scores, TrustCounts, dict[str, Any]]:
    value = read_json(path, limit=_LARGEST_PART)
    if not isinstance(value, dict) or not isinstance(value.get("shard"), str):
        raise InputError(
            f"{path}: is no part of an evaluation; write one with iccld evaluate --shard I/N --json"
        )
    try:
        scores = Scores.from_json(value)
        counts = build(TrustCounts, value.get("counts"), "counts")
        shard = parse_shard(value["shard"], "shard")
    except InputError as error:
        raise InputError(f"{path}: is damaged ({reason(error, path)}); evaluate this part again") from error
    facts = {key: item for key, item in value.items() if key not in Scores.__dataclass_fields__}
    return shard, scores, counts, facts
