"""The threads of a run: chosen by trial, kept with the run, and chosen anew when its steps change their pace.

Sums of floats depend in their last bits on the number of threads, so the run's folder records which number was in
force from which step on, and a run that goes on follows that record.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from lightning.fabric import Fabric

from iccld.documents import read_json
from iccld.errors import InputError
from iccld.files import write_json
from iccld.threads import Choice, choose_threads, most_threads, set_threads
from iccld.training.outlook import Drift

RECORD = "threads.json"


@dataclass(frozen=True)
class Entry:
    """From which step on how many threads.

    Attributes:
        step: steps done before.
        threads: the number.
        why: in words.
    """

    step: int
    threads: int
    why: str


class RunThreads:
    """Sets torch's threads for a run.

    Args:
        threads: as asked for; 0 measures.
        out: the run's folder, whose record is followed where nothing is asked for.
        fabric: launched.
        num_local: ranks that share this machine's cores.
        helpers: loader processes of this rank.
        trial: does a step's work without a trace.

    Attributes:
        entries: the record.
    """

    def __init__(
        self,
        threads: int,
        out: Path,
        *,
        fabric: Fabric,
        num_local: int,
        helpers: int,
        trial: Callable[[], Callable[[], object]],
    ) -> None:
        found = _read(out / RECORD)
        # What the first rank found: it may have written a record by the time that another one looks.
        self.entries, usual = fabric.broadcast(found) if fabric.world_size > 1 else found
        self._asked, self._path, self._fabric = threads, out / RECORD, fabric
        self._num_local, self._helpers, self._trial = num_local, helpers, trial
        self._measures = not threads and fabric.device.type == "cpu"
        self._drift = Drift(usual)

    def begin(self, step: int) -> str:
        """Sets the number for the first step of this process; returns it with the reason."""
        earlier = [entry for entry in self.entries if entry.step <= step]
        if self._asked:
            set_threads(self._asked)
            self._note(step, Choice(self._asked, {}, "--threads"))
        elif earlier:
            set_threads(earlier[-1].threads)
            return f"{earlier[-1].threads} (as before: {earlier[-1].why})"
        elif self._measures:
            self._note(step, self._choose())
        else:
            most = most_threads(self._num_local)
            set_threads(most)
            self._note(step, Choice(most, {}, f"{self._fabric.device.type} computes"))
        entry = self.entries[-1]
        return f"{entry.threads} ({entry.why})"

    def follow(self, step: int) -> None:
        """Before a step: sets the number that the record has from it on, if it has one."""
        for entry in self.entries:
            if entry.step == step and not self._asked:
                set_threads(entry.threads)

    def drifts(self, seconds: float) -> bool:
        """After a step of so many seconds: whether it is time to choose anew."""
        if not self._measures:
            return False
        usual = self._drift.usual
        drifted = self._drift.add(seconds)
        if self._drift.usual != usual:
            self._write()
        return drifted

    def choose_again(self, step: int) -> None:
        """Measures anew, for the steps from ``step`` on; a recorded choice that lies ahead is left to come."""
        if any(entry.step > step for entry in self.entries):
            return
        before = self.entries[-1].threads if self.entries else 0
        choice = self._choose()
        if choice.threads == before:
            return
        self._drift = Drift()
        self._note(step, choice)
        if self._fabric.is_global_zero:
            print(
                f"threads: {choice.threads} from step {step} on, as steps have changed their pace ({choice.why})",
                file=sys.stderr,
            )

    def _choose(self) -> Choice:
        most = most_threads(self._num_local)
        work = self._trial() if most > 1 else int
        choice = choose_threads(work, most, helpers=self._helpers)
        if self._fabric.world_size > 1:  # all measure at once, and the first decides
            choice = self._fabric.broadcast(choice)
            set_threads(choice.threads)
        return choice

    def _note(self, step: int, choice: Choice) -> None:
        kept = [entry for entry in self.entries if entry.step < step]
        if not kept or kept[-1].threads != choice.threads:
            kept.append(Entry(step, choice.threads, choice.why))
        self.entries = kept
        self._write()

    def _write(self) -> None:
        if self._fabric.is_global_zero:
            chosen = [asdict(entry) for entry in self.entries]
            write_json(self._path, {"chosen": chosen, "seconds_per_step": self._drift.usual})


def _read(path: Path) -> tuple[list[Entry], float | None]:
    if not path.is_file():
        return [], None
    remedy = "remove it, and threads are chosen anew"
    value = read_json(path, remedy=remedy)
    try:
        entries = [Entry(int(e["step"]), int(e["threads"]), str(e["why"])) for e in value["chosen"]]
        usual = value["seconds_per_step"]
        assert all(entry.step >= 0 and entry.threads > 0 for entry in entries)
        return sorted(entries, key=lambda entry: entry.step), None if usual is None else float(usual)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise InputError(f"{path}: is no record of threads ({error}); {remedy}") from error
