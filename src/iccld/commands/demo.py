"""``iccld demo``: trains and adapts a segmenter on generated scenes, in one command and without a download."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from iccld.commands.flags import JsonFile, OptionalCount, Seed, Threads
from iccld.commands.output import human_text, write_result
from iccld.commands.training import train
from iccld.config import TrainConfig, from_dict, to_dict
from iccld.documents import read_json
from iccld.errors import RunFailedError
from iccld.exits import OUTCOMES, run_guarded
from iccld.files import write_json, write_text
from iccld.locks import claiming
from iccld.machine import end_with_parent, usable_cores
from iccld.outputs import REPORT, RUN, Places
from iccld.presets import get_preset

if TYPE_CHECKING:
    from iccld.data.interface import SegmentationDataset
    from iccld.run_data import RunData

_NUM_PICTURES = 6
_SCENES = "scenes"
"""Name of the folder of rendered scenes, which both runs read. It is removed at the end."""
_MOST_THREADS = 2
_SHORTEST_WATCH = 10  # minimum number of steps between two evaluations
_HOW_TO_GO_ON = """
Your own unlabeled images (a folder of PNG or JPEG files), with these scenes as the labeled source:
  {program} train scenes_to_folder --data.target-root MY_IMAGES --out runs/mine
  {program} predict runs/mine MY_IMAGES --out runs/mine/predictions
Your own labeled source as well: add --data.source folder --data.source-root MY_LABELED (docs/data.md)."""


@dataclass(frozen=True)
class DemoArgs:
    """Trains on labeled day scenes in the style of a game, and adapts to unlabeled night scenes in the style of photos.

    Trains a source-only model and an ICCLD model for the same number of steps, side by side if there are two cores.
    Writes a report, a table, images, curves and both models.
    Example: iccld demo --out runs/demo
    """

    out: Path = Path("runs/demo")
    """Folder of the results. To resume an interrupted demo, run the same command again."""
    steps: OptionalCount = None
    """Number of training steps of each of the two models. The default is the number of steps in the preset demo."""
    seed: Seed = 0
    threads: Threads = 0
    json: JsonFile = None
    """JSON file for a copy of OUT/results.json."""

    def run(self) -> int:
        """Runs the demo and returns the exit code."""
        preset = get_preset("demo").config
        steps = self.steps or preset.steps
        every = max(_SHORTEST_WATCH, steps // 4)
        config = replace(preset, seed=self.seed, threads=self.threads, steps=steps, eval_every=every)
        Places(files={"--json": (self.json, "json")}, folders={"--out": self.out}).check()
        record = f"source_only/{RUN}"
        with human_text(self.json), claiming(self.out, "demo", "demo of iccld", record=record):
            code = _run(config, self.out)
        if code == 0 and self.json is not None:
            write_result(self.json, read_json(self.out / "results.json"))
        return code


def _run(config: TrainConfig, out: Path) -> int:
    from iccld.build import build_fabric, build_method
    from iccld.run_data import build_data, build_label_space

    print(
        "Demo: labeled scenes of a game by day, unlabeled scenes of a camera by night. Two runs of "
        f"{config.steps} steps: without adaptation, and with ICCLD.\n",
        flush=True,
    )
    cores = config.threads or usable_cores()
    device = build_fabric(config).device  # sets the number of threads before any computation
    side_by_side = cores > 1 and device.type == "cpu"
    if side_by_side:
        # A step has too little work for many threads, so both runs together take less time than one after the other.
        data_config = replace(config.data, scene_cache=str(out / _SCENES))
        config = replace(config, threads=min(cores // 2, _MOST_THREADS), data=data_config)
    data = build_data(config, build_method(config, build_label_space(config.data)))
    if side_by_side:
        outcome = _train_both(config, out, data)
    else:
        baseline = replace(config, method="source_only")
        outcome = train(baseline, out / "source_only", preset="demo", data=replace(data, target=None))
        if outcome == "finished":
            print()
            outcome = train(config, out / "iccld", preset="demo", data=data)
    if outcome == "finished":
        assert data.val is not None
        _report(config, data.val, out)
        shutil.rmtree(out / _SCENES, ignore_errors=True)
        (out / "source_only.json").unlink(missing_ok=True)
        program = "iccld" if Path(sys.argv[0]).name != "__main__.py" else "python -m iccld"
        print(_HOW_TO_GO_ON.format(program=program))
    return OUTCOMES[outcome]


def _train_both(config: TrainConfig, out: Path, data: RunData) -> str:
    """Trains ICCLD, and the source-only model in a process beside it. Returns how the training ended.

    Raises ``RunFailedError`` if the process of the source-only model fails.
    """
    from iccld.bench.launchers import start_local, stopped_at_end
    from iccld.progress import busy

    folder, log, job = (out / f"source_only{ending}" for ending in ("", ".txt", ".json"))
    settings = to_dict(replace(config, method="source_only"))
    write_json(job, {"config": settings, "out": str(folder), "command": sys.argv})
    script = "import sys; from iccld.commands.demo import train_beside; sys.exit(train_beside())"
    command = [sys.executable, "-P", "-c", script, str(job)]  # -P: no modules of the current folder
    print(f"source_only: trained beside the other run; its output is in {log}\n", flush=True)
    with stopped_at_end(start_local(command, log, config.threads)) as process:
        outcome = train(config, out / "iccld", preset="demo", data=data)
        if outcome != "finished":
            return outcome
        with busy("waiting for source_only"):
            code = process.wait()
    if code:
        last = (log.read_text(errors="replace").splitlines() or [""])[-1]
        raise RunFailedError(
            f"{folder}: ended with code {code} ({last}); run the same command again to go on"
        )
    return outcome


def train_beside() -> int:
    """Trains the run that the JSON file on the command line describes. The process ends with its parent."""
    end_with_parent()
    job = read_json(Path(sys.argv[1]))
    sys.argv = job["command"]  # the command that the files of the run name for resuming
    return run_guarded(lambda: OUTCOMES[train(from_dict(job["config"]), Path(job["out"]), preset="demo")])


def _report(config: TrainConfig, val: SegmentationDataset, out: Path) -> None:
    """Writes results, table, images and report of both models, and prints the gain of ICCLD."""
    from iccld.commands.run_report import load_runs
    from iccld.reporting.curves import curves
    from iccld.reporting.report import write_report
    from iccld.reporting.tables import scores_table

    subjects = load_runs([out / "source_only", out / "iccld"])
    baseline, adapted = (subject.record.scores for subject in subjects)
    assert baseline is not None
    assert adapted is not None
    gain = adapted.miou - baseline.miou
    results = {"source_only": baseline.to_json(), "iccld": adapted.to_json(), "gain": gain}
    facts = {"steps": config.steps, "seed": config.seed, "weights": "EMA teacher, last step"}
    write_json(out / "results.json", results | facts)
    titles = {"source only": baseline, "ICCLD": adapted}
    write_text(out / "table.md", scores_table(titles, markdown=True) + "\n")
    _draw_grid(val, out)
    runs = {"source only": out / "source_only" / "metrics.csv", "ICCLD": out / "iccld" / "metrics.csv"}
    curves(runs, out / "curves.png")
    page = write_report(out / REPORT, subjects, title="ICCLD demo: source only and adapted")
    print(
        f"\nTarget IoU in percent, {len(val)} unseen scenes by night, EMA teacher of step {config.steps}:\n\n"
        f"{scores_table(titles)}\n\nICCLD gains {gain:+.1f} points of mIoU over source-only.\n\n"
        f"pictures: {out / 'predictions.png'}, {out / 'curves.png'}\nresults:  {out / 'results.json'}\nreport:   {page}"
    )


def _draw_grid(val: SegmentationDataset, out: Path) -> None:
    from iccld.models.iccld import ICCLD
    from iccld.progress import track
    from iccld.reporting.figures import prediction_grid

    baseline, model = (ICCLD.from_pretrained(out / name) for name in ("source_only", "iccld"))
    rows = []
    num_pictures = min(_NUM_PICTURES, len(val))
    for index in track(range(num_pictures), num_pictures, "Drawing"):
        image, label = val.image(index), val.label(index)
        plain, adapted = baseline.predict(image), model.predict(image, steps=4, draws=4)
        rows.append([image, label, plain.labels, adapted.labels, adapted.relative_uncertainty])
    columns = ["image", "truth", "source only", "ICCLD", "uncertainty"]
    prediction_grid(rows, columns, out / "predictions.png", val.label_space)
