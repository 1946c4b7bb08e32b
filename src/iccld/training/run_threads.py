"""Number of CPU threads of a run. The number is chosen by a trial before the first step, and recorded in a file.

The last bits of floating-point sums depend on the number of threads. A resumed run therefore uses the recorded number.
If the number changes during a run, the record contains each number with the step from which it was used.
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
    """Entry of the record: the number of threads from step ``step`` on, with the reason for this number."""

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
    """Sets torch's number of threads for the steps of a run from ``step`` on, and records the number.

    Args:
        threads: Number of threads. 0 uses the recorded number, or the result of a trial if there is no record.
        step: Step at which the run starts or resumes.
        out: Folder of the run.
        fabric: Launched Fabric.
        helpers: Number of loader processes of this rank.
        make_trial: Function that returns a function that runs one trial step without side effects on the run.

    Returns:
        The number of threads and the reason, as text.

    Raises:
        InputError: The record cannot be read.
    """
    entries = _read(out / _RECORD)
    if fabric.world_size > 1:  # rank zero reads for all, because it rewrites the file below
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
        if fabric.world_size > 1:  # all ranks use the choice of rank zero
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
