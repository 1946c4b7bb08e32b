"""Worker process of ``iccld bench``: trains and evaluates one run, and writes its result."""

from __future__ import annotations

import datetime
import resource
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iccld.bench.engine import EXIT_TAKEN
from iccld.bench.plan import identity
from iccld.commands.train_checks import DATA
from iccld.config import TrainConfig, from_dict, to_dict
from iccld.documents import read_json, typed
from iccld.errors import InputError
from iccld.exits import OUTCOMES, run_guarded
from iccld.files import write_json
from iccld.locks import claiming_file, working_in
from iccld.machine import end_with_parent

if TYPE_CHECKING:
    from iccld.inference.segmenter import Segmenter

_PACE = "train/seconds_per_step"
_OF_A_MACHINE = ("cpu", "cores", "threads", "device", "torch", "gpu", "precision")


def main() -> int:
    """Executes the job in the JSON file that the command line names, and returns the exit code."""
    end_with_parent()  # if the bench is killed, its runs end too
    return run_guarded(_work)


def _work() -> int:
    path = Path(sys.argv[1])
    job, started = read_json(path), path.stat().st_mtime
    result = Path(job["result"])
    with claiming_file(result) as is_free:
        if not is_free:
            return EXIT_TAKEN
        if result.is_file() and result.stat().st_mtime > started:  # written between the launch and this line
            return 0
        # The worker of a killed bench can hold the lock until its state is saved, so this worker waits for up to a
        # minute.
        with working_in(path.parent, patience=60.0):
            return _train_and_measure(job)


def _train_and_measure(job: dict[str, Any]) -> int:
    import torch

    from iccld.bench.scores import target_scores
    from iccld.commands.training import train
    from iccld.inference.segmenter import load_segmenter
    from iccld.reporting.environment import describe_environment

    config, folder = from_dict(job["config"]), Path(job["folder"])
    # The commit is read before training, because the code on disk may change during the run.
    now = describe_environment(torch.get_num_threads(), config.device, config.precision)
    started = time.monotonic()
    before = _read_seconds(folder)
    _require_labels(config)
    try:
        outcome = train(config, folder, preset=job["preset"])
        if outcome != "finished":
            return OUTCOMES[outcome]
        if not (folder / "training.json").is_file():
            write_json(folder / "training.json", _training_facts(config, folder))
        model = load_segmenter(str(folder), device=config.device, threads=config.threads)
        predictions = _measure(config, model, job["predictions"])
        label_free = {name: round(score, 5) for name, score in target_scores(config, model).items()}
    finally:
        write_json(folder / "seconds.json", before + time.monotonic() - started)
    facts = {
        "run": job["run"],
        "command": job["command"],
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        **{name: now[name] for name in ("commit", "changed")},
        "machine": {name: now[name] for name in _OF_A_MACHINE if name in now},
        **{name: predictions[0][name] for name in ("miou", "iou")},
        "seconds": round(_read_seconds(folder), 1),
        **read_json(folder / "training.json"),
        "predictions": [{k: v for k, v in p.items() if k != "iou"} for p in predictions],
        "label_free": label_free,
        "data": _without_roots(read_json(folder / DATA)),
        "settings": _portable_settings(config),
    }
    write_json(job["result"], facts)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    for name in ("seconds.json", "training.json"):  # so that the time of a repeated run starts from zero
        (folder / name).unlink()
    return 0


def _without_roots(data: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {role: {k: v for k, v in facts.items() if k != "root"} for role, facts in data.items()}


def _portable_settings(config: TrainConfig) -> dict[str, Any]:
    """Returns a run's settings without the values that are specific to this machine: folders, threads and device."""
    settings = to_dict(config) | {"threads": 0, "device": "auto"}
    nowhere = dict.fromkeys(("source_root", "target_root", "scene_cache"))
    own = identity(config).data
    names = {"target_labeled": own.target_labeled, "more_sources": list(own.more_sources)}
    settings["data"] |= nowhere | {"cache": own.cache, **names}
    return settings


def _require_labels(config: TrainConfig) -> None:
    """Raises ``InputError`` if there are no labeled target images for the evaluation at the end of the training."""
    from iccld.run_data import open_target

    try:
        if config.data.target != "street_scenes":  # scenes always have labels
            open_target(config, "val")
    except InputError as error:
        message = f"a bench measures every run, and this one cannot be measured: {error}"
        raise InputError(message) from error


def _read_seconds(folder: Path) -> float:
    """Returns the seconds that all attempts at this run have taken so far, or 0 if no attempt has been recorded."""
    path = folder / "seconds.json"
    return float(typed(float, read_json(path), str(path))) if path.is_file() else 0.0


def _training_facts(config: TrainConfig, folder: Path) -> dict[str, Any]:
    import torch

    from iccld.compute import choose_device
    from iccld.training.tracking import read_metrics

    rows = read_metrics(folder / "metrics.csv")
    paces = {int(r["step"]): float(r[_PACE]) for r in rows if _PACE in r}
    adapting = [pace for step, pace in paces.items() if step > config.adaptation.start * config.steps]
    checkpoints = [
        {"step": int(r["step"]), "seconds": round(_seconds_until(int(r["step"]), paces), 1)}
        | {k: float(r[f"val/{k}"]) for k in ("miou", "entropy", "agreement")}
        for r in rows
        if "val/miou" in r
    ]
    # The peak memory of the loader processes is not included.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if choose_device(config.device) == "cuda":
        peak = torch.cuda.max_memory_allocated()
    last = {k.removeprefix("train/"): float(v) for k, v in rows[-1].items() if k.startswith("train/")}
    return {
        "seconds_per_step": round(sum(paces.values()) / len(paces), 4),
        # The fastest logging interval is used, because other load on the machine can only slow down training.
        "seconds_per_adapting_step": round(min(adapting or paces.values()), 4),
        "peak_gib": round(peak / 2**30, 3),
        "checkpoints": checkpoints,
        "last_logged": last,
    }


def _seconds_until(step: int, paces: Mapping[int, float]) -> float:
    """Returns the seconds of training up to a step, without evaluations.

    ``paces`` maps the last step of each logging interval to the mean seconds per step of the interval.
    """
    intervals = zip([0, *paces], paces.items(), strict=False)
    return sum(max(0, min(step, end) - start) * pace for start, (end, pace) in intervals)


def _measure(config: TrainConfig, model: Segmenter, settings: list[tuple[int, int]]) -> list[dict[str, Any]]:
    from iccld.inference.review import evaluate_trust
    from iccld.labels import protocol_of
    from iccld.models.settings import PredictSettings
    from iccld.run_data import open_target

    val = open_target(config, "val")
    protocol = protocol_of(model.label_space)
    measured = []
    for steps, draws in settings:
        scores, trust = evaluate_trust(model, val, protocol, PredictSettings(steps, draws))
        iou = {name: None if value is None else round(value, 3) for name, value in scores.iou.items()}
        facts = {"steps": steps, "draws": draws, "miou": round(scores.miou, 4), "iou": iou}
        facts["pixel_accuracy"] = round(scores.pixel_accuracy, 4)
        measured.append(facts | {k: None if v != v else round(v, 5) for k, v in trust.items()})
    return measured


if __name__ == "__main__":
    sys.exit(main())
