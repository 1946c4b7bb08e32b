"""``iccld evaluate``: evaluates mIoU and per-class IoU of a model, or of a folder of predicted label maps."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from iccld.commands.flags import (
    JsonFile,
    OptionalCount,
    OptionalFile,
    OptionalFolder,
    OptionalModel,
    OptionalName,
    Prediction,
    Threads,
)
from iccld.commands.output import STDOUT, human_text, write_result
from iccld.errors import InputError
from iccld.labels import PROTOCOLS, custom_protocol, get_protocol, protocol_of
from iccld.models.settings import PredictSettings
from iccld.outputs import Places

if TYPE_CHECKING:
    from iccld.inference.segmenter import Segmenter
    from iccld.reporting.record import Record

# Evaluation scenes of all presets with street scenes. No run is trained on these scenes.
_NUM_SCENES, _SCENES = 100, {"height": 128, "width": 256, "seed": 3}
_WAYS = (
    "call 'iccld evaluate MODEL --dataset NAME --root DIR' to measure a model, "
    "or 'iccld evaluate --predictions DIR --labels DIR --protocol NAME' to measure label maps"
)


@dataclass(frozen=True)
class EvaluateArgs:
    """Evaluates mIoU and per-class IoU, as defined by the Cityscapes benchmark.

    For a model, on a labeled data set:
      iccld evaluate MODEL --dataset camvid --root DIR --split val --report scores.html

    For label maps that 'iccld predict' or another program wrote:
      iccld evaluate --predictions DIR --labels DIR --protocol cityscapes19 --json scores.json

    Label maps are PNG files of Cityscapes trainIds, with 255 for unlabeled pixels. Files named *_labelIds.png
    contain Cityscapes labelIds. Predictions and labels with the same path form a pair. Suffixes of Cityscapes names
    are ignored in this comparison.
    """

    model: OptionalModel = None
    """Folder of a saved model, a hub id (user/model or user/model@revision), or an exported file."""
    dataset: OptionalName = None
    """Data set: gta5, synthia, cityscapes, camvid, folder or street_scenes."""
    root: OptionalFolder = None
    """Folder of the data set."""
    split: OptionalName = None
    """Split of the data set. The default is val, or the only split if there is just one."""
    look: Literal["game", "camera", "night"] = "camera"
    """Rendering style of street_scenes."""
    predictions: OptionalFolder = None
    """Folder of predicted label maps, for an evaluation without a model."""
    labels: OptionalFolder = None
    """Folder of the true label maps with which the predicted label maps are compared."""
    protocol: OptionalName = None
    """Evaluation protocol: cityscapes19, synthia16, synthia13, camvid11 or custom (all classes of the model). For
    predicted label maps, the path of a dataset.toml that defines classes and ids is accepted too. The default is the
    protocol that matches the model's classes."""
    json: JsonFile = None
    """JSON file for the scores and the confusion counts."""
    report: OptionalFile = None
    """HTML file for a report with classes, confusion, images and calibration, by default next to the JSON file."""
    settings: Prediction = field(default_factory=PredictSettings)
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:1, ..."""
    threads: Threads = 0
    """Number of CPU threads. 0 means automatic."""
    limit: OptionalCount = None
    """Evaluate only the first N images. For street_scenes, N scenes are rendered (100 by default)."""

    def run(self) -> int:
        """Evaluates, prints a table, writes the JSON file and the report, and returns the exit code."""
        page = self.report
        if page is None and self.json is not None and self.json != STDOUT:
            page = self.json.with_suffix(".html")
        own = self.protocol if self.protocol and self.protocol.endswith(".toml") else None
        Places(
            files={"--json": (self.json, "json"), "--report": (page, "html")},
            data=[self.root, self.predictions, self.labels, own],
            models=[self.model],
        ).check()
        with human_text(self.json):
            if self._is_folder_call():
                record, facts = self._evaluate_folders(reports=page is not None)
            else:
                record, facts = self._evaluate_model(reports=page is not None)

            from iccld.reporting.tables import print_scores

            assert record.scores is not None
            print_scores(record.scores)
        # The JSON file is written first, so that no scores are lost if the report cannot be written.
        write_result(self.json, record.scores.to_json(**facts))
        if page is not None:
            with human_text(self.json):
                self._write_report(page, record, facts)
        return 0

    def _write_report(self, page: Path, record: Record, facts: dict[str, Any]) -> None:
        from iccld.reporting.record import Subject, commit_of
        from iccld.reporting.report import write_report

        assert record.scores is not None
        shown = {**facts, "protocol": record.scores.protocol, "commit": commit_of(record.environment)}
        words = [(name, "" if value is None else _words(value)) for name, value in shown.items()]
        name = Path(self.model).name if self.model else str(self.predictions)
        print(f"report: {write_report(page, [Subject(name, words, record)])}")

    def _is_folder_call(self) -> bool:
        folders = [f"--{n}" for n in ("predictions", "labels") if getattr(self, n) is not None]
        data = [f"--{n}" for n in ("dataset", "root") if getattr(self, n) is not None]
        of_model = ["MODEL"] * (self.model is not None) + data
        if folders and of_model:
            raise InputError(f"{of_model[0]} and {folders[0]} exclude each other; {_WAYS}")
        if len(folders) == 1:
            raise InputError(f"{folders[0]} needs --predictions and --labels; {_WAYS}")
        if not folders and self.model is None:
            raise InputError(f"there is nothing to measure; {_WAYS}")
        if not folders and self.dataset is None:
            raise InputError(f"the data set is missing; {_WAYS}")
        return bool(folders)

    def _evaluate_folders(self, *, reports: bool) -> tuple[Record, dict[str, Any]]:
        if self.protocol is None:
            names = ", ".join(PROTOCOLS)
            raise InputError(f"label maps need a --protocol; choose from {names}, or name a dataset.toml")
        own = None
        if self.protocol.endswith(".toml"):
            from iccld.data.description import read_description

            own = read_description(Path(self.protocol))
        protocol = get_protocol(self.protocol) if own is None else custom_protocol(own.space)

        from iccld.inference.evaluation import evaluate_folders
        from iccld.reporting.record import Record

        environment = self._environment("cpu") if reports else {}
        assert self.predictions is not None
        assert self.labels is not None
        scores = evaluate_folders(self.predictions, self.labels, protocol, own=own)
        record = Record(environment, measured_on=str(self.labels), scores=scores)
        return record, {"predictions": str(self.predictions), "labels": str(self.labels)}

    def _evaluate_model(self, *, reports: bool) -> tuple[Record, dict[str, Any]]:
        if self.protocol is not None and self.protocol != "custom":
            get_protocol(self.protocol)  # reports a mistyped name before the model is loaded

        from iccld.data.datasets import choose_split, open_dataset
        from iccld.inference.evaluation import evaluate_model, missing_classes
        from iccld.inference.review import Review
        from iccld.inference.segmenter import load_segmenter
        from iccld.reporting.record import Record, measured_record

        assert self.model is not None
        assert self.dataset is not None
        model = load_segmenter(self.model, device=self.device, threads=self.threads)
        space = model.label_space
        protocol = get_protocol(self.protocol, space) if self.protocol else protocol_of(space)
        split = choose_split(self.dataset, self.root, self.split, "val")
        scenes: dict[str, Any] = _SCENES | {"look": self.look, "count": self.limit or _NUM_SCENES}
        dataset = open_dataset(self.dataset, self.root, split=split, label_space=protocol.space, **scenes)
        missing = ", ".join(missing_classes(space, protocol))
        if missing:
            print(f"iccld: warning: the model has no class for {missing} ({protocol.name})", file=sys.stderr)
        review = Review(protocol) if reports else None
        indices = range(min(self.limit or len(dataset), len(dataset)))
        how: dict[str, Any] = {"settings": self.settings, "indices": indices, "observe": review}
        scores = evaluate_model(model, dataset, protocol, **how)
        record = Record(scores=scores)
        if review is not None:
            record = measured_record(
                model,
                dataset,
                scores,
                review,
                environment=self._environment(self.device, model),
                measured_on=f"{self.dataset} {split}, {scores.num_images} images",
                settings=self.settings,
            )
        return record, self._facts(model, split)

    def _environment(self, device: str, model: Segmenter | None = None) -> dict[str, Any]:
        """Returns a description of the machine and the software for the report."""
        import torch

        from iccld.reporting.environment import describe_environment

        precision = getattr(model, "precision", self.settings.precision)
        return describe_environment(torch.get_num_threads(), device, precision)

    def _facts(self, model: Segmenter, split: str) -> dict[str, Any]:
        """Returns the settings of the evaluation for the JSON file."""
        settings = self.settings
        return {
            "model": self.model,
            "dataset": self.dataset,
            "root": None if self.root is None else str(self.root),
            "split": split,
            "steps": settings.steps or getattr(model, "steps", 1),
            "draws": settings.draws or getattr(model, "draws", 1),
            **{name: getattr(settings, name) for name in ("window", "overlap", "resize", "precision")},
            **({"look": self.look} if self.dataset == "street_scenes" else {}),
        }


def _words(value: object) -> str:
    return " × ".join(map(str, value)) if isinstance(value, tuple) else str(value)
