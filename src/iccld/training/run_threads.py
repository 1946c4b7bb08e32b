"""The threads of a run: chosen by trial before its first step, and kept with the run.

Sums of floats depend in their last bits on the number of threads. The run's folder records which number was in force
from which step on, and a run that goes on follows that record.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from lightning.fabric import Fabric

from iccld.documents import Range, build, read_json
from iccld.errors import InputError
from iccld.files import write_json
from iccld.threads import Choice, choose_threads, most_threads, set_threads

_RECORD = "threads.json"


@dataclass(frozen=True)
class _Entry:
    """How many threads compute from a step on, and why."""

    step: Annotated[int, Range(0, 10**12)]
    threads: Annotated[int, Range(1, 4096)]
    why: str


@dataclass(frozen=True)
class _Record:
    chosen: tuple[_Entry, ...] = ()


def set_run_threads(
    threads: int,
    step: int,
    out: Path,
    *,
    fabric: Fabric,
    helpers: int,
    make_trial: Callable[[], Callable[[], object]],
) -> str:
    """Sets the threads of torch for the steps of a run from ``step`` on, and records their number.

    Args:
        threads: the number; 0 takes that of the record, or measures if there is none.
        step: where the run begins or goes on.
        out: the folder of the run.
        fabric: launched.
        helpers: loader processes of this rank.
        make_trial: gives what does the work of a step without a trace.

    Returns:
        The number, and why it was chosen.

    Raises:
        InputError: the record cannot be read.
    """
    entries = _read(out / _RECORD)
    if fabric.world_size > 1:  # the first rank may have written a record by the time that another one looks
        entries = fabric.broadcast(entries)
    earlier = [entry for entry in entries if entry.step <= step]
    if earlier and not threads:
        set_threads(earlier[-1].threads)
        return f"{earlier[-1].threads} (as before: {earlier[-1].why})"
    most = most_threads(int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if threads:
        choice = Choice(threads, {}, "--threads")
    elif fabric.device.type != "cpu":
        choice = Choice(most, {}, f"{fabric.device.type} computes")
    else:
        choice = choose_threads(make_trial() if most > 1 else int, most, helpers=helpers)
        if fabric.world_size > 1:  # all measure at once, and the first decides
            choice = fabric.broadcast(choice)
    set_threads(choice.threads)
    entries = [entry for entry in entries if entry.step < step]
    if not entries or entries[-1].threads != choice.threads:
        entries.append(_Entry(step, choice.threads, choice.why))
    if fabric.is_global_zero:
        write_json(out / _RECORD, {"chosen": [asdict(entry) for entry in entries]})
    return f"{choice.threads} ({choice.why})"


def _read(path: Path) -> list[_Entry]:
    if not path.is_file():
        return []
    remedy = "remove it, and threads are chosen anew"
    value = read_json(path, remedy=remedy)
    try:
        record = build(_Record, value, str(path), others=True)
    except InputError as error:
        raise InputError(f"{error}; {remedy}") from error
    return sorted(record.chosen, key=lambda entry: entry.step)
