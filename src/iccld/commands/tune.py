"""``iccld tune SEARCH``: searches for settings without target labels."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from iccld.bench.tuning import DIRECTIONS, Objective, Study, read_search
from iccld.commands.flags import Count, JsonFile, Seed
from iccld.commands.output import human_text, write_result
from iccld.commands.train_checks import data_folders
from iccld.errors import InputError, RunFailedError
from iccld.exits import OUTCOMES
from iccld.outputs import Places

if TYPE_CHECKING:
    from iccld.bench.tuning import Search
    from iccld.config import TrainConfig


@dataclass(frozen=True)
class TuneArgs:
    """Searches for settings with Optuna. By default, target labels are not used.

    The same command continues an interrupted search. Several calls with the same --work folder work on one search.

    Example: iccld tune search.toml --trials 20 --work runs/tune

    The TOML file names a preset, settings that are fixed, and the settings to search with their values:
      preset = "scenes_to_folder"
      settings = { steps = 800, "data.target_root" = "my_camera" }
      search."adaptation.start" = { low = 0.1, high = 0.5 }
      search."adaptation.color_transfer" = { choices = [0.5, 1.0] }
    """

    search: Positional[Path]
    """TOML file with the preset and the settings to search."""
    trials: Count = 20
    """Number of trials, including those of earlier calls."""
    work: Path = Path("runs/tune")
    """Folder of the trials, which are runs."""
    objective: Objective = "agreement"
    """Score: agreement of an image with its mirror image, entropy, snd (soft neighborhood density), transfer (transfer
    score), source (mIoU on the split val of the source), or target (mIoU on the labeled target images, which needs
    --with-target-labels)."""
    with_target_labels: bool = False
    """Allow --objective target. The result then says that target labels were used."""
    seed: Seed = 0
    """Seed of the search."""
    json: JsonFile = None
    """JSON file for the trials and the best settings."""

    def run(self) -> int:
        """Runs the trials, prints the best, and returns the exit code."""
        if (self.objective == "target") != self.with_target_labels:
            raise InputError("--objective target and --with-target-labels belong together; give both or none")
        search = read_search(self.search)
        data: list[str | Path] = [self.search, *data_folders(search.config())]
        Places(files={"--json": (self.json, "json")}, folders={"--work": self.work}, data=data).check()
        with human_text(self.json):
            study = Study(search, self.work, self.objective, self.seed)
            while True:
                with study.next(self.trials) as found:
                    if found is None:
                        break
                    code = self._try(study, search, *found)
                    if code:
                        return code
            results = study.results()
            if not results:
                raise InputError(f"{self.work}: no trial has a score; their messages above say why")
            self._print(search, results)
        facts = {"objective": self.objective, "used_target_labels": self.with_target_labels}
        write_result(self.json, {**facts, "preset": search.preset, "best": results[0], "trials": results})
        return 0

    def _try(self, study: Study, search: Search, number: int, values: dict[str, Any]) -> int:
        """Trains and scores a trial. Returns an exit code other than 0 if the command was interrupted."""
        from iccld.commands.training import train

        config, out = search.config(values), self.work / f"trial-{number}"
        print(f"trial {number}: {_words(values)}", flush=True)
        try:
            outcome = train(config, out, preset=search.preset)
        except RunFailedError as error:  # for example a learning rate with which the loss is not finite
            print(f"trial {number}: failed ({error})", file=sys.stderr)
            study.tell(number, None)
            return 0
        if outcome != "finished":
            return OUTCOMES[outcome] or 1
        score = self._score(config, out)
        print(f"trial {number}: {self.objective} {score:.4f}", flush=True)
        study.tell(number, score)
        return 0

    def _score(self, config: TrainConfig, out: Path) -> float:
        from iccld.bench.scores import target_scores
        from iccld.inference.evaluation import evaluate_model
        from iccld.inference.segmenter import load_segmenter
        from iccld.labels import protocol_of
        from iccld.run_data import open_source_val, open_target

        model = load_segmenter(str(out), device=config.device, threads=config.threads)
        if self.objective in ("source", "target"):
            data = open_target(config, "val") if self.objective == "target" else open_source_val(config)
            return evaluate_model(model, data, protocol_of(model.label_space)).miou
        return target_scores(config, model)[self.objective]

    def _print(self, search: Search, results: list[dict[str, Any]]) -> None:
        better = "lower" if DIRECTIONS[self.objective] == "minimize" else "higher"
        print(f"\n{self.objective} ({better} is better)")
        for result in results[:10]:
            print(f"{result['score']:10.4f}  trial {result['trial']}: {_words(result['settings'])}")
        if self.with_target_labels:
            print("These settings were chosen with target labels: report scores on other labeled images.")
        best = {**search.settings, **results[0]["settings"]}
        flags = [word for name, value in best.items() for word in _flags(name, value)]
        print(f"\ntrain with: iccld train {search.preset} --method {search.method} {shlex.join(flags)}")


def _words(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _flags(name: str, value: Any) -> list[str]:
    group, dot, last = name.replace("_", "-").rpartition(".")
    if isinstance(value, bool):
        return [f"--{group}{dot}{'' if value else 'no-'}{last}"]
    return [f"--{group}{dot}{last}", *map(str, value if isinstance(value, list | tuple) else [value])]
