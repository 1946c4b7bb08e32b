"""``iccld evaluate``: mIoU and per-class IoU of a model, or of a folder of predictions."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from iccld.commands.flags import (
    JsonFile,
    OptionalCount,
    OptionalFile,
    OptionalFolder,
    OptionalModel,
    OptionalName,
    OptionalSize,
    Overlap,
    Precision,
    Threads,
)
from iccld.commands.output import STDOUT, human_text, write_result
from iccld.errors import InputError
from iccld.labels import PROTOCOLS, LabelSpace, custom_protocol, get_protocol, protocol_of
from iccld.outputs import Places

if TYPE_CHECKING:
    from iccld.data.datasets import SegmentationDataset
    from iccld.inference.segmenter import Segmenter
    from iccld.reporting.record import Record

# The street scenes that a run of the presets measures itself on, and trains on none of.
_NUM_SCENES, _SCENE_SIZE, _SCENE_SEED = 100, (128, 256), 3
_WAYS = (
    "call 'iccld evaluate MODEL --dataset NAME --root DIR' to measure a model, "
    "or 'iccld evaluate --predictions DIR --labels DIR --protocol NAME' to measure label maps"
)


@dataclass(frozen=True)
class EvaluateArgs:
    """Measures mIoU and per-class IoU, as the Cityscapes benchmark defines them.

    Of a model, on a labeled data set:
      iccld evaluate MODEL --dataset camvid --root DIR --split val --report scores.html

    Of label maps that 'iccld predict' or another program wrote:
      iccld evaluate --predictions DIR --labels DIR --protocol cityscapes19 --json scores.json

    Label maps are PNG files of Cityscapes trainIds with 255 for unlabeled; files named *_labelIds.png hold
    Cityscapes labelIds. They are paired by their path, Cityscapes endings aside.
    """

    model: OptionalModel = None
    """Folder of a saved model, a hub id (user/model or user/model@revision), or an exported file."""
    dataset: OptionalName = None
    """Data set: gta5, synthia, cityscapes, camvid, folder or street_scenes."""
    root: OptionalFolder = None
    """Folder of the data set."""
    split: OptionalName = None
    """Part of the data set: val by default, or the only part that there is."""
    look: Literal["game", "camera", "night"] = "camera"
    """Of street_scenes: which rendering style."""
    predictions: OptionalFolder = None
    """Predicted label maps, to measure without a model."""
    labels: OptionalFolder = None
    """True label maps for --predictions."""
    protocol: OptionalName = None
    """Classes to count and average: cityscapes19, synthia16, synthia13, camvid11, or custom for all classes
    of the model. By default the one that fits the model's classes. For --predictions it may be a dataset.toml:
    the label maps hold its ids, and all of its classes count."""
    json: JsonFile = None
    """Where to write the scores and the confusion counts."""
    report: OptionalFile = None
    """Where to write a page with classes, confusion, images and calibration; beside --json if that is given."""
    steps: OptionalCount = None
    """Denoising steps K: 1 by default, or what an exported model was made with."""
    draws: OptionalCount = None
    """Noise draws N whose probabilities are averaged: 1 by default, or what an exported model was made with."""
    window: OptionalSize = None
    """Height and width of a sliding window in pixels. By default each image is taken whole."""
    overlap: Overlap = 0.25
    """Share of a window that the next one covers again."""
    resize: OptionalSize = None
    """Height and width that the model sees; scores are taken at the labels' full size. By default the
    images' own."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, ..."""
    precision: Precision = "auto"
    """fp32, bf16, or auto: bf16 where the device is fast at it, and for an exported file its own."""
    threads: Threads = 0
    """CPU threads; 0 for automatic."""
    limit: OptionalCount = None
    """Only the first N images. Of street_scenes: how many to render, 100 by default."""

    def run(self) -> int:
        """Measures, prints a table and writes the JSON."""
        self._check_outputs()
        with human_text(self.json):
            if self._is_folder_call():
                record, facts = self._evaluate_folders()
            else:
                record, facts = self._evaluate_model()

            from iccld.reporting.tables import print_scores

            assert record.scores is not None
            print_scores(record.scores)
        # The figures first: a report that cannot be written does not cost them.
        write_result(self.json, record.scores.to_json(**facts))
        with human_text(self.json):
            self._write_report(record, facts)
        return 0

    def _write_report(self, record: Record, facts: Mapping[str, Any]) -> None:
        path = self._report_path()
        if path is None:
            return
        from iccld.reporting.record import Subject, commit_of
        from iccld.reporting.report import write_report

        assert record.scores is not None
        shown = {**facts, "protocol": record.scores.protocol, "commit": commit_of(record.environment)}
        words = [(name, "" if value is None else _words(value)) for name, value in shown.items()]
        name = Path(self.model).name if self.model else str(self.predictions)
        print(f"report: {write_report(path, [Subject(name, words, record)])}")

    def _report_path(self) -> Path | None:
        if self.report is None and self.json is not None and self.json != STDOUT:
            return self.json.with_suffix(".html")
        return self.report

    def _check_outputs(self) -> None:
        """Refuses to write over or among what is read, over a run's own files, or the scores over the page."""
        own = self.protocol if self.protocol and self.protocol.endswith(".toml") else None
        Places(
            files={"--json": (self.json, "json"), "--report": (self._report_path(), "html")},
            data=[self.root, self.predictions, self.labels, own],
            models=[self.model],
        ).check()

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

    def _evaluate_folders(self) -> tuple[Record, dict[str, Any]]:
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

        environment = self._environment("cpu")
        assert self.predictions is not None
        assert self.labels is not None
        scores = evaluate_folders(self.predictions, self.labels, protocol, own=own)
        record = Record(environment, measured_on=str(self.labels), scores=scores)
        return record, {"predictions": str(self.predictions), "labels": str(self.labels)}

    def _evaluate_model(self) -> tuple[Record, dict[str, Any]]:
        if self.protocol is not None and self.protocol != "custom":
            get_protocol(self.protocol)  # a typing error shows before the model is loaded

        from iccld.inference.evaluation import evaluate_model, missing_classes
        from iccld.inference.review import Review
        from iccld.inference.segmenter import PredictSettings, load_segmenter
        from iccld.reporting.record import Record

        assert self.model is not None
        settings = PredictSettings(
            self.steps, self.draws, 0, self.window, self.overlap, self.resize, self.precision
        )
        model = load_segmenter(self.model, device=self.device, threads=self.threads)
        space = model.label_space
        protocol = get_protocol(self.protocol, space) if self.protocol else protocol_of(space)
        dataset = self._open_dataset(protocol.space)
        missing = missing_classes(model.label_space, protocol)
        if missing:
            names = ", ".join(missing)
            print(f"iccld: warning: the model has no class for {names} ({protocol.name})", file=sys.stderr)
        wants_report = self._report_path() is not None
        review = Review(protocol)
        scores = evaluate_model(
            model,
            dataset,
            protocol,
            steps=self.steps,
            draws=self.draws,
            window=self.window,
            overlap=self.overlap,
            resize=self.resize,
            precision=self.precision,
            limit=self.limit,
            observe=review if wants_report else None,
        )
        if not wants_report:
            return Record(scores=scores), self._facts(model)
        from iccld.reporting.examples import measured_record

        record = measured_record(
            model,
            dataset,
            protocol,
            scores,
            review,
            environment=self._environment(self.device, model),
            measured_on=f"{self.dataset} {self._split()}, {scores.num_images} images",
            settings=settings,
        )
        return record, self._facts(model)

    def _environment(self, device: str, model: Segmenter | None = None) -> dict[str, Any]:
        """Where this is measured, if there will be a report to say it."""
        if self._report_path() is None:
            return {}
        import torch

        from iccld.compute import choose_device, uses_bf16
        from iccld.reporting.environment import describe_environment

        kind = choose_device(device).partition(":")[0]
        precision = getattr(model, "precision", "") or ("bf16" if uses_bf16(kind, self.precision) else "fp32")
        return describe_environment(torch.get_num_threads(), kind, precision)

    def _open_dataset(self, space: LabelSpace) -> SegmentationDataset:
        from iccld.data.datasets import open_dataset

        assert self.dataset is not None
        return open_dataset(
            self.dataset,
            self.root,
            split=self._split(),
            label_space=space,
            look=self.look,
            count=self.limit or _NUM_SCENES,
            height=_SCENE_SIZE[0],
            width=_SCENE_SIZE[1],
            seed=_SCENE_SEED,
        )

    def _split(self) -> str:
        from iccld.data.datasets import choose_split

        assert self.dataset is not None
        return choose_split(self.dataset, self.root, self.split, "val")

    def _facts(self, model: Segmenter) -> dict[str, Any]:
        """How the scores came about, for the JSON file."""
        return {
            "model": self.model,
            "dataset": self.dataset,
            "root": None if self.root is None else str(self.root),
            "split": self._split(),
            "steps": self.steps or getattr(model, "steps", 1),
            "draws": self.draws or getattr(model, "draws", 1),
            "window": self.window,
            "overlap": self.overlap,
            "resize": self.resize,
            "precision": self.precision,
            **({"look": self.look} if self.dataset == "street_scenes" else {}),
        }


def _words(value: object) -> str:
    return " × ".join(map(str, value)) if isinstance(value, tuple) else str(value)
