"""Report files in a run's folder: the JSON record, the HTML page and the README."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from iccld.config import DataConfig, TrainConfig, read_settings
from iccld.data.interface import SegmentationDataset
from iccld.documents import read_json, typed
from iccld.errors import InputError, first_line
from iccld.inference.evaluation import evaluate_model
from iccld.inference.review import Review, RunEvaluation, choose_unmeasured
from iccld.inference.segmenter import Segmenter, load_segmenter
from iccld.labels import protocol_of
from iccld.metrics import Scores
from iccld.outputs import REPORT, RUN
from iccld.reporting.curves import read_table
from iccld.reporting.environment import describe_environment, resumed_environment
from iccld.reporting.record import (
    Record,
    Subject,
    commit_of,
    draw_examples,
    has_findings,
    measured_record,
    read_record,
    write_readme,
)
from iccld.reporting.report import write_report
from iccld.run_data import RunData, open_target

if TYPE_CHECKING:
    from iccld.training.loop import Trainer


def begin_record(out: Path, config: TrainConfig, start: int, *, threads: str) -> None:
    """Writes the README and the record of a run. The record contains a description of the environment.

    ``threads`` is a text about the number of threads, for this description.

    If ``start`` is not 0, the run is resumed at this step. The record then keeps the environment of the first call, and
    an entry for the new call is added. Earlier scores and their step stay in the record until the next evaluation.
    """
    environment = describe_environment(torch.get_num_threads(), config.device, config.precision)
    environment["threads"] = threads
    record = Record(environment)
    if start:
        earlier = Record()
        with suppress(InputError):  # a record that cannot be read must not stop a run
            earlier = read_record(out) or earlier
        step = start if earlier.step is None and has_findings(earlier) else earlier.step
        environment = resumed_environment(earlier.environment, environment)
        record = replace(earlier, environment=environment, step=step)
    record.write(out)
    write_readme(out, command=str(environment["command"]))


def finish_run(trainer: Trainer, data: RunData) -> Path | None:
    """Writes the record and the report of a run that has just finished, from the run's last evaluation.

    Returns the path of the report. An error must not make the finished run fail. If an error occurs, the error is
    therefore printed as one line on stderr, and ``None`` is returned.
    """
    config, out, evaluation = trainer.config, trainer.out, trainer.evaluate
    teacher = trainer.update.teacher_model
    try:
        environment = (read_record(out) or Record()).environment
        if isinstance(evaluation, RunEvaluation) and evaluation.last is not None:
            record = _measured(teacher, config, evaluation.val, *evaluation.last, environment)
        else:
            record = _unmeasured(teacher, config, data.target, data.missing_val, environment)
        record.write(out)
        return write_report(out / REPORT, [read_run(out)])
    except Exception as error:
        print(
            f"iccld: warning: the model is saved, but no report was written ({first_line(error)}); "
            f"'iccld report {out}' tries again",
            file=sys.stderr,
        )
        return None


def load_runs(folders: list[Path], *, device: str = "auto", threads: int = 0) -> list[Subject]:
    """Reads runs for a report. If a finished run has no scores yet, the run is evaluated first.

    In the report, each run has the name of its folder. If two of these names are equal, the report shows the paths of
    all folders instead of the names.

    Args:
        folders: Folders of the runs.
        device: Device for evaluations, either ``auto`` or a torch device.
        threads: Number of threads for evaluations. 0 means automatic.

    Raises:
        InputError: A run cannot be read (see ``read_run``), or its model cannot be loaded.
    """
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    subjects = []
    for folder, name in zip(folders, names, strict=True):
        subject = read_run(folder, name=name)
        record = subject.record
        if not subject.unfinished and not has_findings(record):
            print(f"{folder}: measuring for the report", file=sys.stderr, flush=True)
            measure_run(folder, record, device=device, threads=threads).write(folder)
            subject = read_run(folder, name=name)
        subjects.append(subject)
    return subjects


def find_runs(folder: Path) -> list[Path]:
    """Returns the folders of the runs directly below ``folder``.

    If ``folder`` is a run or contains no runs, returns only ``folder`` itself.
    """
    inner = sorted(path.parent for path in folder.glob(f"*/{RUN}"))
    if (folder / RUN).is_file() or not inner:
        return [folder]
    # The baseline comes first, because gains are relative to the first run.
    return sorted(inner, key=lambda path: path.name != "source_only")


def read_run(folder: Path, *, name: str | None = None) -> Subject:
    """Reads the folder of a finished or unfinished run for a report.

    ``name`` is the name of the run in the report. The default is the name of the folder.

    Raises:
        InputError: The folder does not contain a run, the run has not logged metrics yet, or files cannot be read.
    """
    path = folder / RUN
    if not path.exists():
        what = f"holds no {RUN}" if folder.is_dir() else "no such folder"
        raise InputError(f"{folder}: {what}; give the folder of a run of 'iccld train'")
    config = read_settings(path, remedy="give the folder of a run")
    preset = typed(str, read_json(path).get("preset"), f"{path}: preset")
    if not (folder / "metrics.csv").is_file():
        raise InputError(f"{folder}: holds no metrics.csv; let the run go on for some steps")
    table = read_table(folder / "metrics.csv")
    record = read_record(folder) or Record()
    last = int(table["step"][-1])
    finished = last >= config.steps and (folder / "model.safetensors").is_file()
    if has_findings(record) and record.step not in (None, last):
        # The run was continued after the evaluation. The scores are left out, because readers could mistake them for
        # scores of the last step.
        words = f"those of step {record.step} were measured before the run went on"
        record = Record(record.environment, no_scores=words)
    d, m, environment = config.data, config.model, record.environment
    source, target = _images(d, "source", d.source_split), _images(d, "target", d.target_split)
    facts = {
        "method": config.method,
        "preset": preset,
        "labeled data": target if config.method == "oracle" else source,
        "target": "not used" if config.method == "source_only" else target,
        "measured on": record.measured_on,
        "protocol": record.scores.protocol if record.scores else "",
        "seed": str(config.seed),
        "steps": f"{last} of {config.steps}",
        "weights": f"EMA teacher of the last step, {last}; no label chose it" if finished else "",
        "backbone": m.backbone + ("" if m.diffusion else ", no diffusion"),
        "commit": commit_of(environment) or ("unknown" if environment else ""),
        "date": str(environment.get("date", "")),
    }
    unfinished = "" if finished else f"{last} of {config.steps} steps"
    name = name or folder.resolve().name
    return Subject(name, list(facts.items()), record, table, unfinished, config.method)


def measure_run(folder: Path, record: Record, *, device: str, threads: int) -> Record:
    """Evaluates the model of a finished run on the run's evaluation images, and returns the new record of the run."""
    config = read_settings(folder / RUN, remedy="give the folder of a run")
    model = load_segmenter(str(folder), device=device, threads=threads)
    try:
        val = open_target(config, "val")
    except InputError as error:
        return _unmeasured(model, config, None, str(error), record.environment)
    review = Review(protocol_of(model.label_space))
    scores = evaluate_model(model, val, review.protocol, observe=review)
    return _measured(model, config, val, scores, review, record.environment)


def _measured(
    model: Segmenter,
    config: TrainConfig,
    val: SegmentationDataset,
    scores: Scores,
    review: Review,
    environment: Mapping[str, Any],
) -> Record:
    d = config.data
    on = f"{_images(d, 'target', d.val_split)}, {scores.num_images} images"
    record = measured_record(model, val, scores, review, environment=environment, measured_on=on)
    return replace(record, step=config.steps)


def _unmeasured(
    model: Segmenter,
    config: TrainConfig,
    target: SegmentationDataset | None,
    reason: str,
    environment: Mapping[str, Any],
) -> Record:
    """Returns a record with example predictions and without scores, for a run without labeled evaluation images."""
    space = model.label_space
    try:
        target = target or open_target(config, "target")
        examples = draw_examples(model, target, choose_unmeasured(len(target)), space)
    except InputError as error:
        examples, reason = (), f"{reason}; nor are there images to show: {error}"
    legend = tuple((c.name, c.color) for c in space.classes)
    return Record(environment, config.steps, no_scores=reason, examples=examples, legend=legend)


def _images(d: DataConfig, domain: str, split: str) -> str:
    name, look = getattr(d, domain), getattr(d, f"{domain}_look")
    return f"{name}, {look} look, {split}" if name == "street_scenes" else f"{name}, {split}"
