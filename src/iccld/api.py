"""The Python API: the commands ``iccld train``, ``adapt``, ``evaluate`` and ``predict`` as functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from iccld.commands.adapt import like_stored
from iccld.commands.evaluate import EvaluateArgs
from iccld.commands.flags import check_values
from iccld.commands.train_checks import refuse_ignored
from iccld.commands.training import train as run_training
from iccld.config import TrainConfig, with_settings
from iccld.errors import InputError
from iccld.inference.mapping import mapped
from iccld.inference.segmenter import Segmenter, load_segmenter
from iccld.labels import suggest
from iccld.metrics import Scores
from iccld.models.iccld import ICCLD
from iccld.models.settings import PredictSettings, plain
from iccld.presets import get_preset, with_method
from iccld.training.callbacks import Callbacks, do_nothing
from iccld.training.tracking import read_metrics

if TYPE_CHECKING:
    from torch import Tensor


_SETTINGS = list(PredictSettings.__dataclass_fields__)
_GROUPS = {"data": "target_root", "model": "backbone", "optim": "head_lr", "adaptation": "mixing"}
"""Groups of settings, each with the name of one of its settings as an example."""


@dataclass(frozen=True)
class Run:
    """A training run on disk.

    Attributes:
        folder: Folder of the run.
        outcome: How the training ended: ``finished``, ``stopped`` (at ``stop_at``), ``interrupted`` (Ctrl-C) or
            ``terminated`` (SIGTERM).
    """

    folder: Path
    outcome: str

    @property
    def rows(self) -> list[dict[str, float]]:
        """Rows of ``metrics.csv``. Each row contains the step and the metrics of this step by name."""
        path = self.folder / "metrics.csv"
        rows = read_metrics(path) if path.is_file() else []
        return [{name: float(value) for name, value in row.items()} for row in rows]

    @property
    def metrics(self) -> dict[str, float]:
        """Last row of ``metrics.csv``. If the evaluation images have labels, ``val/miou`` is the mIoU in percent."""
        rows = self.rows
        return rows[-1] if rows else {}

    @cached_property
    def model(self) -> ICCLD:
        """Trained model in evaluation mode. Its weights are those of the EMA teacher after the last step.

        Raises:
            InputError: The run is not finished.
        """
        return ICCLD.from_pretrained(self.folder)


def train(
    preset: str = "demo",
    out: str | Path | None = None,
    *,
    on_step: Callable[[int, Mapping[str, Tensor]], object] | None = None,
    on_checkpoint: Callable[[int, Path], object] | None = None,
    on_evaluation: Callable[[int, Mapping[str, float]], object] | None = None,
    **settings: Any,
) -> Run:
    """Starts or resumes a training run, as ``iccld train PRESET --out OUT`` does.

    ``iccld.train("demo", "runs/short", steps=40, data={"source_count": 50})`` is equivalent to
    ``iccld train demo --out runs/short --steps 40 --data.source-count 50``.

    Args:
        preset: Name of a preset (``iccld presets`` lists them).
        out: Folder of the run. The default is ``runs/PRESET``.
        on_step: Called after each step with the number of finished steps and the metrics of this step by name. The
            metrics are tensors on the device. If a callback converts a tensor to a number, a GPU sync occurs.
        on_checkpoint: Called after each checkpoint with the number of finished steps and the folder of checkpoints.
        on_evaluation: Called after each evaluation with the number of finished steps and the metrics by name.
        settings: Settings that replace settings of the preset. The names are the flags of ``iccld train`` with
            underscores instead of hyphens. The settings of a group are given as a mapping, such as
            ``data={"target_root": "photos"}``. The setting ``method`` also applies the recipe of the method.

    Returns:
        The run, from which metrics and the trained model can be read.

    Raises:
        InputError: The preset or a setting is unknown, a value is invalid, a setting would have no effect, data cannot
            be read, or the folder contains another run.
        RunFailedError: A loss is not finite, the disk is full, or a loader process was killed.
    """
    callbacks = (on_step, on_checkpoint, on_evaluation)
    return _train(preset, get_preset(preset).config, out, callbacks, settings)


def adapt(
    images: str | Path,
    out: str | Path | None = None,
    *,
    model: str | Path = "streets",
    on_step: Callable[[int, Mapping[str, Tensor]], object] | None = None,
    on_checkpoint: Callable[[int, Path], object] | None = None,
    on_evaluation: Callable[[int, Mapping[str, float]], object] | None = None,
    **settings: Any,
) -> Run:
    """Adapts a trained model to a folder of unlabeled images, as ``iccld adapt IMAGES --out OUT`` does.

    The labeled source consists of generated street scenes. The adapted model has the architecture and the classes of
    ``model``.

    Args:
        images: Folder of the unlabeled images.
        out: Folder of the run. The default is ``runs/adapt``.
        model: ``streets`` (built in), folder of a model, or hub id. Its classes must be those of a built-in label
            space.
        on_step: See ``train``.
        on_checkpoint: See ``train``.
        on_evaluation: See ``train``.
        settings: Settings that replace settings of the preset ``adapt``, as for ``train``.

    Returns:
        The run, from which metrics and the adapted model can be read.

    Raises:
        InputError: The model, the images or a setting is invalid, or the folder contains another run.
        RunFailedError: A loss is not finite, the disk is full, or a loader process was killed.
    """
    config = like_stored(get_preset("adapt").config, model)
    data = settings.get("data", {})
    if isinstance(data, Mapping):
        settings["data"] = {"target_root": images, **data}
    return _train("adapt", config, out, (on_step, on_checkpoint, on_evaluation), settings)


def _train(
    preset: str,
    config: TrainConfig,
    out: str | Path | None,
    callbacks: Sequence[Callable[..., object] | None],
    settings: Mapping[str, Any],
) -> Run:
    if "method" in settings:
        config = with_method(config, settings["method"])
    named = _dotted(settings)
    try:
        chosen = with_settings(config, named)
    except ValueError as error:
        raise InputError(f"{error}; see iccld train {preset} --help") from error
    refuse_ignored(chosen, config, named)
    folder = Path(out).expanduser() if out is not None else Path("runs") / preset
    called = Callbacks(*(callback or do_nothing for callback in callbacks))
    return Run(folder, run_training(chosen, folder, preset=preset, callbacks=called))


def _dotted(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings by dotted names. For example, ``{"data": {"crop": …}}`` becomes ``{"data.crop": …}``."""
    named: dict[str, Any] = {}
    for name, value in settings.items():
        if name in _GROUPS and not isinstance(value, Mapping):
            raise InputError(
                f"{name} is a group of settings; give a mapping such as {{{_GROUPS[name]!r}: …}}"
            )
        if isinstance(value, Mapping) and name not in _GROUPS:
            raise InputError(f"unknown group of settings {name!r}; {suggest(name, list(_GROUPS))}")
        if isinstance(value, Mapping):
            named |= {f"{name}.{inner}": item for inner, item in value.items()}
        else:
            named[name] = value
    return {name: str(value) if isinstance(value, Path) else plain(value) for name, value in named.items()}


def evaluate(
    model: str | Path | Segmenter,
    dataset: str,
    root: str | Path | None = None,
    *,
    split: str | None = None,
    protocol: str | None = None,
    look: Literal["game", "camera", "night"] = "camera",
    limit: int | None = None,
    map: str | Path | None = None,
    device: str = "auto",
    threads: int = 0,
    **settings: Any,
) -> Scores:
    """Evaluates a model on a labeled data set, as ``iccld evaluate MODEL --dataset DATASET --root ROOT`` does.

    Args:
        model: Folder of a saved model, ``streets`` (built in), hub id, exported file, or a loaded model.
        dataset: Name of the data set: ``gta5``, ``synthia``, ``cityscapes``, ``camvid``, ``folder`` or
            ``street_scenes``.
        root: Folder of the data set (not needed for ``street_scenes``).
        split: Split of the data set. The default is ``val``, or the only split if there is just one.
        protocol: Evaluation protocol. The default is the protocol that matches the model's classes. If the classes of
            the data set are coarser than the model's classes, the default matches the classes of the data set.
        look: Rendering style of ``street_scenes``.
        limit: Maximum number of images. The first images are evaluated. ``None`` evaluates all images of a data set,
            and 100 images of ``street_scenes``.
        map: Name of a built-in label space, or a TOML file (see ``iccld.inference.mapping.read_map``). The model then
            predicts the classes of this map. The probability of each new class is a sum of probabilities of the
            model's classes.
        device: Device, either ``auto`` or a torch device.
        threads: Number of CPU threads. 0 uses the number that is fastest in a trial.
        settings: Fields of ``PredictSettings``, such as ``steps`` and ``draws``.

    Returns:
        mIoU and IoU of each class in percent, and the confusion matrix.

    Raises:
        InputError: The model, the data set or a setting is invalid, or the data set has no labels.
    """
    unknown = settings.keys() - PredictSettings.__dataclass_fields__.keys()
    if unknown:
        raise InputError(f"unknown setting {min(unknown)!r}; {suggest(min(unknown), _SETTINGS)}")
    args = EvaluateArgs(
        model=str(model) if isinstance(model, str | Path) else None,
        dataset=dataset,
        root=None if root is None else Path(root),
        split=split,
        protocol=protocol,
        look=look,
        limit=limit,
        map=None if map is None else str(map),
        device=device,
        threads=threads,
        settings=PredictSettings(**settings),
    )
    check_values(args, prefix="")
    return args.evaluate_model(None if isinstance(model, str | Path) else model)


def predict(
    model: str | Path | Segmenter,
    source: Any,
    *,
    map: str | Path | None = None,
    device: str = "auto",
    threads: int = 0,
    **settings: Any,
) -> Any:
    """Loads a model and segments images.

    Args:
        model: Folder of a saved model, ``streets`` (built in), hub id, exported file, or a loaded model.
        source: Images, as for ``ICCLD.predict``: a path, folder, glob pattern, Pillow image, array, tensor or list.
        map: Name of a built-in label space, or a TOML file (see ``iccld.inference.mapping.read_map``). The model then
            predicts the classes of this map. The probability of each new class is a sum of probabilities of the
            model's classes.
        device: Device, either ``auto`` or a torch device.
        threads: Number of CPU threads. 0 uses the number that is fastest in a trial. ``device`` and ``threads``
            have no effect if ``model`` is a loaded model.
        settings: Further arguments of ``ICCLD.predict``, such as ``steps``, ``draws`` and ``stream``.

    Returns:
        A ``Result`` for a single image, or a list of results for several images. With ``stream=True``, several images
        give an iterator over the results instead of a list.

    Raises:
        InputError: The model or an image cannot be read, or a setting is invalid.
    """
    if isinstance(model, str | Path):
        model = load_segmenter(str(model), device=device, threads=threads)
    return mapped(model, map).predict(source, **settings)
