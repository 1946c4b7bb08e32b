"""Search for settings with Optuna, by scores that need no target labels.

The state of a search is its folder: the journal of Optuna, and one run per trial. Several processes may work on one
search.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal

from iccld.config import TrainConfig, with_settings
from iccld.documents import Length, Range, build, read_toml
from iccld.errors import InputError, first_line, import_extra
from iccld.locks import claiming_file
from iccld.presets import get_preset, with_method
from iccld.unread import refuse_unread

Objective = Literal["entropy", "agreement", "snd", "transfer", "source", "target"]
DIRECTIONS: Mapping[Objective, Literal["minimize", "maximize"]] = {
    "entropy": "minimize",
    "agreement": "maximize",
    "snd": "maximize",
    "transfer": "maximize",
    "source": "maximize",
    "target": "maximize",
}
_Number = Annotated[float, Range(-1e30, 1e30)]


@dataclass(frozen=True)
class Axis:
    """Values of one setting: an interval (``low``, ``high``, optionally logarithmic), or ``choices``."""

    low: _Number | None = None
    high: _Number | None = None
    log: bool = False
    choices: Annotated[tuple[str | int | float | bool, ...], Length(100)] = ()

    def check(self) -> None:
        """Raises ``InputError`` if the values are incomplete or contradict each other."""
        is_interval = self.low is not None and self.high is not None
        if is_interval == bool(self.choices) or (self.low is None) != (self.high is None):
            raise InputError("give either low and high, or choices")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise InputError(f"low is {self.low}, which is not below high ({self.high})")
        if self.log and not (self.low or 0) > 0:
            raise InputError("log needs low above 0")


@dataclass(frozen=True)
class Search:
    """A search, as a TOML file describes it.

    Attributes:
        preset: Name of the preset that is changed.
        search: Values by the dotted name of the setting.
        method: Method, whose recipe is applied to the preset.
        settings: Changes to the preset that all trials have.
        title: Title of the search.
    """

    preset: str
    search: Annotated[Mapping[str, Axis], Length(50)]
    method: str = "iccld"
    settings: Annotated[Mapping[str, Any], Length(200)] = field(default_factory=dict)
    title: Annotated[str, Length(200)] = ""

    def config(self, values: Mapping[str, Any] | None = None) -> TrainConfig:
        """Returns the settings of a trial. Raises ``InputError`` if a value is wrong or would not be read."""
        try:
            config = with_method(get_preset(self.preset).config, self.method)
            config = with_settings(config, {**self.settings, **(values or {})})
        except ValueError as error:
            raise InputError(first_line(error)) from error
        refuse_unread(config, [*self.settings, *(values or {})])
        return config

    def is_whole(self, name: str) -> bool:
        """Returns whether a setting has whole numbers, so that only whole numbers are drawn from its interval."""
        value = attrgetter(name)(self.config())
        return isinstance(value, int) and not isinstance(value, bool)


def read_search(path: Path) -> Search:
    """Reads a search from a TOML file. Raises ``InputError`` if the file or a part of it is invalid."""
    search = build(Search, read_toml(path), str(path), thing="entry")
    if not search.search:
        raise InputError(f'{path}: has no settings to search; add a table such as [search."optim.head_lr"]')
    for name, axis in search.search.items():
        try:
            axis.check()
            for value in axis.choices or (axis.low, axis.high):
                search.config({name: value})
        except InputError as error:
            raise InputError(f"{path}: {name}: {error}") from error
    return search


class Study:
    """The trials of a search in a folder.

    The values of a trial depend on the seed and on the finished trials, not on interruptions.

    Raises:
        InputError: Optuna is not installed, or the folder contains a search with another objective.
    """

    def __init__(self, search: Search, folder: Path, objective: Objective, seed: int) -> None:
        optuna = import_extra("optuna", "iccld tune needs Optuna", "tune")
        journal = import_extra("optuna.storages.journal", "iccld tune needs Optuna", "tune")
        optuna.logging.set_verbosity(logging.ERROR)
        self._optuna, self._seed, self._search, self.folder = optuna, seed, search, folder
        folder.mkdir(parents=True, exist_ok=True)
        storage = optuna.storages.JournalStorage(journal.JournalFileBackend(str(folder / "journal.log")))
        direction = DIRECTIONS[objective]
        self._study = optuna.create_study(
            storage=storage, study_name="tune", direction=direction, load_if_exists=True
        )
        before = self._study.user_attrs.get("objective", objective)
        if before != objective:
            raise InputError(f"{folder}: has a search by {before}, not by {objective}; give another --work")
        self._study.set_user_attr("objective", objective)

    @contextlib.contextmanager
    def next(self, most: int) -> Iterator[tuple[int, dict[str, Any]] | None]:
        """Claims a trial of a process that was killed, or a new one. Gives its number and values.

        Gives ``None`` if ``most`` trials have begun and no other process is missing.
        """
        for trial in self._study.get_trials(states=[self._optuna.trial.TrialState.RUNNING]):
            with claiming_file(self.folder / f"trial-{trial.number}.json") as is_free:
                if is_free:
                    yield trial.number, trial.params
                    return
        number = len(self._study.trials)
        if number >= most:
            yield None
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some samplers are marked as experimental
            self._study.sampler = self._optuna.samplers.TPESampler(
                seed=self._seed + number, multivariate=True
            )
            asked = self._study.ask(self._distributions())
        with claiming_file(self.folder / f"trial-{asked.number}.json"):
            yield asked.number, asked.params

    def tell(self, number: int, value: float | None) -> None:
        """Stores the value of a trial, or ``None`` if the trial failed."""
        failed = self._optuna.trial.TrialState.FAIL
        self._study.tell(number, value, state=failed if value is None else None)

    def results(self) -> list[dict[str, Any]]:
        """Returns number, values and score of all finished trials, the best first."""
        done = self._study.get_trials(states=[self._optuna.trial.TrialState.COMPLETE])
        sign = 1 if self._study.direction.name == "MINIMIZE" else -1
        ordered = sorted(done, key=lambda trial: (sign * float(trial.value or 0.0), trial.number))
        return [{"trial": t.number, "score": t.value, "settings": dict(t.params)} for t in ordered]

    def _distributions(self) -> dict[str, Any]:
        kinds = self._optuna.distributions
        found: dict[str, Any] = {}
        for name, axis in self._search.search.items():
            if axis.choices:
                found[name] = kinds.CategoricalDistribution(axis.choices)
            elif self._search.is_whole(name):
                found[name] = kinds.IntDistribution(int(axis.low or 0), int(axis.high or 0), log=axis.log)
            else:
                found[name] = kinds.FloatDistribution(axis.low, axis.high, log=axis.log)
        return found
