"""``iccld demo``: a segmenter learns a domain it has no labels for, in one command and without any download."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from iccld.commands.flags import JsonFile, OptionalCount, Seed, Threads
from iccld.commands.output import human_text, write_result
from iccld.commands.train import train
from iccld.config import TrainConfig
from iccld.documents import read_json
from iccld.exits import OUTCOMES
from iccld.files import write_json, write_text
from iccld.labels import protocol_of
from iccld.locks import working_in
from iccld.outputs import RUN, Places, claiming, require_own
from iccld.presets import get_preset

if TYPE_CHECKING:
    from iccld.metrics import Scores
    from iccld.models.iccld import ICCLD
    from iccld.run_data import RunData

_NUM_PICTURES = 6
_SHORTEST_WATCH = 10  # steps between two measurements of mIoU
_FILES = ("results.json", "table.md", "predictions.png", "curves.png", "report.html")


@dataclass(frozen=True)
class DemoArgs:
    """Trains on street scenes of a "game" look with labels, and adapts to a "camera" look without.

    Trains source-only, then ICCLD for as many steps, and leaves a report, a table, pictures, curves and both models.
    Example: iccld demo --out runs/demo
    """

    out: Path = Path("runs/demo")
    """Folder for the results; the same command again resumes what is there."""
    steps: OptionalCount = None
    """Training steps of each of the two runs; the preset's if not given."""
    seed: Seed = 0
    threads: Threads = 0
    """CPU threads; 0: all cores."""
    json: JsonFile = None
    """Where to write the results, beside OUT/results.json."""

    def run(self) -> int:
        """Runs the demo; returns the exit code."""
        preset = get_preset("demo").config
        steps = self.steps or preset.steps
        every = max(_SHORTEST_WATCH, steps // 4)
        config = replace(preset, seed=self.seed, threads=self.threads, steps=steps, eval_every=every)
        Places(files={"--json": (self.json, "json")}, folders={"--out": self.out}).check()
        begun = (self.out / "source_only" / RUN).is_file()
        require_own(self.out, "demo", f"source_only/{RUN}", "demo of iccld")
        names = () if begun else ("source_only", "iccld", *_FILES)
        with human_text(self.json), working_in(self.out), claiming(self.out, "demo", names):
            code = _run(config, self.out)
        if code == 0 and self.json is not None:
            write_result(self.json, read_json(self.out / "results.json"))
        return code


def _run(config: TrainConfig, out: Path) -> int:
    from iccld.build import build_fabric, build_method
    from iccld.run_data import build_data, build_label_space

    print(
        "Demo: labeled scenes of a game look, unlabeled scenes of a camera look. Two runs of "
        f"{config.steps} steps: without adaptation, then with ICCLD.\n",
        flush=True,
    )
    build_fabric(config)  # sets the threads before anything is computed
    method = build_method(config, build_label_space(config.data))
    data = build_data(config, method)
    baseline = replace(config, method="source_only")
    outcome = train(baseline, out / "source_only", preset="demo", data=replace(data, target=None))
    if outcome == "finished":
        print()
        outcome = train(config, out / "iccld", preset="demo", data=data)
    if outcome != "finished":
        return OUTCOMES[outcome]
    _report(config, data, out)
    _write_page(out)
    _say_how_to_go_on()
    return 0


def _report(config: TrainConfig, data: RunData, out: Path) -> None:
    """Scores both models, writes results, table and pictures, and says what to do next."""
    from iccld.inference.evaluation import evaluate_model
    from iccld.models.iccld import ICCLD
    from iccld.reporting.curves import curves
    from iccld.reporting.record import read_record
    from iccld.reporting.tables import scores_table

    assert data.val is not None
    models = {name: ICCLD.from_pretrained(out / name) for name in ("source_only", "iccld")}
    protocol = protocol_of(data.label_space)
    scores: dict[str, Scores] = {}
    for name, model in models.items():
        record = read_record(out / name)
        if record is not None and record.scores is not None:  # what the run measured at its end
            scores[name] = record.scores
        else:
            scores[name] = evaluate_model(model, data.val, protocol, description=f"Evaluating {name}")
    gain = scores["iccld"].miou - scores["source_only"].miou
    results = {name: s.to_json() for name, s in scores.items()}
    write_json(
        out / "results.json",
        {
            **results,
            "gain": gain,
            "steps": config.steps,
            "seed": config.seed,
            "weights": "EMA teacher, last step",
        },
    )
    titles = {"source only": scores["source_only"], "ICCLD": scores["iccld"]}
    table = scores_table(titles)
    write_text(out / "table.md", scores_table(titles, markdown=True) + "\n")
    _draw_grid(models, data, out / "predictions.png")
    runs = {"source only": out / "source_only" / "metrics.csv", "ICCLD": out / "iccld" / "metrics.csv"}
    curves(runs, out / "curves.png")
    print(
        f"\nTarget IoU in percent, {len(data.val)} unseen camera scenes, EMA teacher of step {config.steps}:\n"
    )
    print(table)
    print(f"\nICCLD gains {gain:+.1f} points of mIoU over source-only.\n")
    print(f"pictures: {out / 'predictions.png'}, {out / 'curves.png'}\nresults:  {out / 'results.json'}")


def _write_page(out: Path) -> None:
    """Both runs side by side."""
    from iccld.commands.earlier_run import REPORT
    from iccld.commands.run_report import find_runs, load_runs
    from iccld.reporting.html.report import write_report

    title = "ICCLD demo: source only and adapted"
    print(f"report:   {write_report(out / REPORT, load_runs(find_runs(out)), title=title)}")


def _say_how_to_go_on() -> None:
    program = "iccld" if Path(sys.argv[0]).name != "__main__.py" else "python -m iccld"
    print(
        "\nYour own unlabeled images (a folder of PNG or JPEG files), with these scenes as the labeled source:\n"
        f"  {program} train scenes_to_folder --data.target-root MY_IMAGES --out runs/mine\n"
        f"  {program} predict runs/mine MY_IMAGES --out runs/mine/predictions\n"
        "Your own labeled source as well: add --data.source folder --data.source-root MY_LABELED (docs/data.md)."
    )


def _draw_grid(models: dict[str, ICCLD], data: RunData, path: Path) -> None:
    from iccld.progress import track
    from iccld.reporting.figures import prediction_grid

    assert data.val is not None
    rows = []
    num_pictures = min(_NUM_PICTURES, len(data.val))
    for index in track(range(num_pictures), num_pictures, "Drawing"):
        image = data.val.image(index)
        plain = models["source_only"].predict(image)
        adapted = models["iccld"].predict(image, steps=4, draws=4)
        rows.append(
            [image, data.val.label(index), plain.labels, adapted.labels, adapted.relative_uncertainty]
        )
    columns = ["image", "truth", "source only", "ICCLD", "uncertainty"]
    prediction_grid(rows, columns, path, data.label_space)
