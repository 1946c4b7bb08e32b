"""``iccld evaluate``: evaluates mIoU and per-class IoU of a model, or of a folder of predicted label maps."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from iccld.commands import flags
from iccld.commands.output import STDOUT, human_text, write_result
from iccld.errors import InputError
from iccld.labels import PROTOCOLS, custom_protocol, get_protocol, protocol_of
from iccld.models.settings import PredictSettings
from iccld.outputs import Places
from iccld.plugins import import_class, is_reference
from iccld.shards import parse_shard

if TYPE_CHECKING:
    from iccld.inference.segmenter import Segmenter
    from iccld.metrics import Scores
    from iccld.reporting.record import Record

# These are the evaluation scenes of all presets with street scenes. No run is trained on these scenes.
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
    contain Cityscapes labelIds. Predictions and labels with the same path form a pair. Suffixes of Cityscapes names,
    such as _leftImg8bit, are ignored in the comparison of paths.

    Several processes or machines can share the work. Each evaluates a part, and the counts are added:
      iccld evaluate MODEL --dataset camvid --root DIR --shard 0/8 --json part0.json
      iccld evaluate --merge part0.json part1.json … part7.json --json scores.json
    """

    model: flags.OptionalModel = None
    """Folder of a saved model, streets (built in), hub id (user/model[@revision]), or exported file."""
    dataset: flags.OptionalName = None
    """Data set: gta5, synthia, cityscapes, camvid, folder, street_scenes, or module:class."""
    root: flags.OptionalFolder = None
    """Folder of the data set."""
    split: flags.OptionalName = None
    """Split of the data set. The default is val, or the only split if there is just one."""
    look: Literal["game", "camera", "night"] = "camera"
    """Rendering style of street_scenes."""
    predictions: flags.OptionalFolder = None
    """Folder of predicted label maps, for an evaluation without a model."""
    labels: flags.OptionalFolder = None
    """Folder of the true label maps with which the predicted label maps are compared."""
    protocol: flags.OptionalName = None
    """Evaluation protocol: cityscapes19, synthia16, synthia13, camvid11 or custom (all classes of the model). For
    predicted label maps, the path of a dataset.toml that defines classes and ids is accepted too. The default is the
    protocol of the model's classes, or the protocol of the data set's classes if the data set has coarser classes."""
    json: flags.JsonFile = None
    """JSON file for the scores and the confusion counts."""
    report: flags.OptionalFile = None
    """HTML file for a report with classes, confusion, images and calibration. The default is an HTML file beside the
    JSON file."""
    map: flags.ClassMap = None
    settings: flags.Prediction = field(default_factory=PredictSettings)
    device: flags.Device = "auto"
    threads: flags.Threads = 0
    limit: flags.OptionalCount = None
    """Evaluate only the first N images. For street_scenes, N scenes are rendered (100 by default)."""
    shard: flags.ShardFlag = None
    """Evaluate part I (from 0) of N parts of the images. The JSON file then contains the counts for --merge."""
    merge: Annotated[tuple[Path, ...], arg(metavar="FILE...", help_behavior_hint="")] = ()
    """Add the JSON files of all parts. The scores are those of one evaluation of all images."""

    def run(self) -> int:
        """Evaluates, prints a table, writes the JSON file and the report, and returns the exit code."""
        page = self.report
        if page is None and self.json is not None and self.json != STDOUT and self.shard is None:
            page = self.json.with_suffix(".html")
        own = self.protocol if self.protocol and self.protocol.endswith(".toml") else None
        Places(
            files={"--json": (self.json, "json"), "--report": (page, "html")},
            data=[self.root, self.predictions, self.labels, own, self.map, *self.merge],
            models=[self.model],
        ).check()
        self._check_call()
        with human_text(self.json):
            if self.merge:
                record, facts = self._merge(page is not None)
            elif self.predictions is not None and self.labels is not None:
                record, facts = self._evaluate_folders(self.predictions, self.labels, page is not None)
            else:
                record, facts = self._evaluate_model(str(self.model), str(self.dataset), page is not None)

            from iccld.reporting.tables import print_scores

            assert record.scores is not None
            print_scores(record.scores)
        # The JSON file is written first, so that no scores are lost if the report cannot be written.
        counted = {"calibration": dict(record.calibration.figures)} if record.calibration else {}
        write_result(self.json, record.scores.to_json(**facts, **counted))
        if page is not None:
            from iccld.reporting.record import Subject, commit_of
            from iccld.reporting.report import write_report

            facts |= {"protocol": record.scores.protocol, "commit": commit_of(record.environment)}
            model = self.model or facts.get("model")
            name = Path(model).name if model else str(self.predictions)
            subject = Subject(name, [(key, _words(value)) for key, value in facts.items()], record)
            with human_text(self.json):
                print(f"report: {write_report(page, [subject])}")
        return 0

    def evaluate_model(self, loaded: Segmenter | None) -> Scores:
        """Evaluates a loaded model, or the named model, without a report. Returns the scores."""
        if loaded is None:
            self._check_call()
        scores = self._evaluate_model(str(self.model), str(self.dataset), False, loaded)[0].scores
        assert scores is not None
        return scores

    def _check_call(self) -> None:
        folders = [f"--{n}" for n in ("predictions", "labels") if getattr(self, n) is not None]
        data = [f"--{n}" for n in ("dataset", "root") if getattr(self, n) is not None]
        of_model = ["MODEL"] * (self.model is not None) + data
        fault = ""
        if self.merge and (others := self._beside_merge()):
            fault = f"--merge and {others[0]} exclude each other"
        elif self.merge:
            return
        elif self.shard is not None and (self.json is None or self.report is not None):
            fault = "--shard needs --json FILE and no --report"
        elif folders and of_model:
            fault = f"{of_model[0]} and {folders[0]} exclude each other"
        elif len(folders) == 1:
            fault = f"{folders[0]} needs --predictions and --labels"
        elif not folders and self.model is None:
            fault = "there is nothing to measure"
        elif not folders and self.dataset is None:
            fault = "the data set is missing"
        elif unread := self._unread(bool(folders)):
            fault = f"--{unread} has no effect here"
        if fault:
            raise InputError(f"{fault}; {_WAYS}")

    def _beside_merge(self) -> list[str]:
        """Returns the given flags that have no effect with ``--merge``."""
        fields = EvaluateArgs.__dataclass_fields__
        names = [n for n in fields if n not in ("merge", "json", "report", "settings")]
        given = [name for name in names if getattr(self, name) != fields[name].default]
        return [name.upper() if name == "model" else f"--{name}" for name in given]

    def _unread(self, is_folders: bool) -> str:
        """Returns the name of a given flag that the call does not read, or an empty text."""
        names = ["split", "look", "map", "limit", "shard"] if is_folders else []
        if self.dataset == "street_scenes":
            names = ["root"]
        elif not is_folders:
            names = ["look"]
        fields = EvaluateArgs.__dataclass_fields__
        return next((name for name in names if getattr(self, name) != fields[name].default), "")

    def _evaluate_folders(
        self, predictions: Path, labels: Path, reports: bool
    ) -> tuple[Record, dict[str, Any]]:
        if self.protocol is None:
            names = ", ".join(PROTOCOLS)
            raise InputError(f"label maps need a --protocol; choose from {names}, or name a dataset.toml")
        from iccld.data.description import read_description

        own = read_description(Path(self.protocol)) if self.protocol.endswith(".toml") else None
        protocol = get_protocol(self.protocol) if own is None else custom_protocol(own.space)

        from iccld.inference.evaluation import evaluate_folders
        from iccld.reporting.record import Record

        environment = self._environment("cpu") if reports else {}
        scores = evaluate_folders(predictions, labels, protocol, own=own)
        record = Record(environment, measured_on=str(labels), scores=scores)
        return record, {"predictions": str(predictions), "labels": str(labels)}

    def _evaluate_model(
        self, name: str, data: str, reports: bool, loaded: Segmenter | None = None
    ) -> tuple[Record, dict[str, Any]]:
        if self.protocol is not None and self.protocol != "custom":
            get_protocol(self.protocol)  # reports a mistyped name before the model is loaded
        if is_reference(data):
            import_class("dataset", data)

        from iccld.data.datasets import choose_split, open_dataset
        from iccld.inference.blocks import identity_of
        from iccld.inference.evaluation import evaluate_model, missing_classes
        from iccld.inference.mapping import coarser_classes, mapped
        from iccld.inference.merging import part_facts
        from iccld.inference.review import Review
        from iccld.inference.segmenter import load_segmenter
        from iccld.reporting.record import Record, measured_record

        if loaded is None:
            loaded = load_segmenter(name, device=self.device, threads=self.threads)
        model = mapped(loaded, self.map)
        split = choose_split(data, self.root, self.split, "val")
        scenes: dict[str, Any] = _SCENES | {"look": self.look, "count": self.limit or _NUM_SCENES}
        own = None
        if self.protocol is None and self.map is None:
            own = open_dataset(data, self.root, split=split, **scenes)
            model = coarser_classes(model, own.label_space)
        space, settings = model.label_space, self.settings
        protocol = get_protocol(self.protocol, space) if self.protocol else protocol_of(space)
        if own is not None and own.label_space == protocol.space:
            dataset = own  # files are not listed a second time
        else:
            dataset = open_dataset(data, self.root, split=split, label_space=protocol.space, **scenes)
        if missing := ", ".join(missing_classes(space, protocol)):
            print(f"iccld: warning: the model has no class for {missing} ({protocol.name})", file=sys.stderr)
        shard = parse_shard(self.shard) if self.shard is not None else None
        review = Review(protocol) if reports or shard else None
        indices: Sequence[int] = range(min(self.limit or len(dataset), len(dataset)))
        if shard is not None:
            indices = [index for index in indices if shard.takes(dataset.file_name(index))]
        scores = evaluate_model(
            model, dataset, protocol, settings=settings, indices=indices, observe=review, is_part=bool(shard)
        )
        record = Record(scores=scores)
        if review is not None and reports:
            environment = self._environment(self.device, model)
            on = f"{data} {split}, {scores.num_images} images"
            texts: dict[str, Any] = {"environment": environment, "measured_on": on}
            record = measured_record(model, dataset, scores, review, **texts, settings=settings)
        facts = {"model": name, "dataset": data, "root": None if self.root is None else str(self.root)}
        facts |= {
            "split": split,
            **{n: getattr(settings, n) or getattr(model, n, 1) for n in ("steps", "draws")},
        }
        facts |= {n: getattr(settings, n) for n in ("window", "overlap", "resize", "precision")}
        facts |= {"look": self.look} if data == "street_scenes" else {}
        if shard is not None and review is not None:
            facts |= part_facts(shard, identity_of(model, limit=self.limit), review.trust)
        return record, facts

    def _merge(self, reports: bool) -> tuple[Record, dict[str, Any]]:
        from iccld.inference.merging import merge_parts
        from iccld.reporting.record import Calibration, Record

        scores, trust, facts = merge_parts(self.merge)
        environment = self._environment("cpu") if reports else {}
        on = f"{facts.get('dataset')} {facts.get('split')}, {scores.num_images} images"
        return Record(environment, measured_on=on, scores=scores, calibration=Calibration.of(trust)), facts

    def _environment(self, device: str, model: Segmenter | None = None) -> dict[str, Any]:
        """Returns a description of the machine and the software for the report."""
        import torch

        from iccld.reporting.environment import describe_environment

        precision = getattr(model, "precision", self.settings.precision)
        return describe_environment(torch.get_num_threads(), device, precision)


def _words(value: object) -> str:
    if isinstance(value, tuple):
        return " × ".join(map(str, value))
    return "" if value is None else str(value)
