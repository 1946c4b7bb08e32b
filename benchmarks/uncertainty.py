"""Detection of wrong pixels by uncertainty: noise draws of ICCLD compared with dropout and an ensemble.

``python benchmarks/uncertainty.py --diffusion RUN... --deterministic RUN... --json out.json`` reads finished runs of
one pair, one folder per seed: runs of ICCLD, and runs of ICCLD with a deterministic head. All are evaluated on the
validation split of the run:

- each run with one noise draw, and ICCLD with several noise draws;
- each deterministic run with dropout before the last layers of denoiser and decoder, at prediction only, averaged over
  several passes (Gal & Ghahramani 2016). Loquercio et al. 2020 show that this does not require other training;
- the mean of the probabilities of all deterministic runs (Lakshminarayanan et al. 2017);
- ICCLD with one draw after temperature scaling (Guo et al. 2017). The temperature is fitted without target labels, on
  source images in target colors and on the parts that ClassMix pastes on target images.

The metrics are those of ``iccld.inference.review.evaluate_trust``, with mean and standard deviation over seeds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from timing import describe_command

from iccld.adaptation.mixing import class_mix_mask, transfer_color
from iccld.build import build_method
from iccld.config import TrainConfig, from_dict
from iccld.files import write_json
from iccld.inference.review import evaluate_trust
from iccld.inference.segmenter import Segmenter, load_model
from iccld.labels import IGNORE, LabelSpace, protocol_of
from iccld.models.iccld import ICCLD
from iccld.models.images import Images
from iccld.models.prediction import Prediction, entropy
from iccld.models.settings import PredictSettings
from iccld.reporting.environment import describe_code, describe_machine
from iccld.resizing import resize_image, resize_label
from iccld.run_data import open_target, open_training


class Committee:
    """A segmenter that averages the probabilities of several segmenters."""

    def __init__(self, members: Sequence[Segmenter]) -> None:
        self.members = members

    @property
    def label_space(self) -> LabelSpace:
        """Returns the label space of the members."""
        return self.members[0].label_space

    def predict(self, images: Images, *, seed: int = 0, **settings: Any) -> Prediction:
        """Predicts with the mean probabilities of the members. The members' disagreement is the mutual information."""
        answers = [m.predict(images, seed=seed + i, **settings) for i, m in enumerate(self.members)]
        mean = np.asarray(np.mean([a.probabilities for a in answers], axis=0, dtype=np.float32))
        total = entropy(torch.from_numpy(mean)).numpy()
        within = np.asarray(np.mean([a.uncertainty - a.mutual_information for a in answers], axis=0))
        labels = mean.argmax(axis=-3).astype(np.uint8)
        return Prediction(labels, mean, np.maximum(total - within, 0, dtype=np.float32))


class Tempered:
    """A segmenter with temperature scaling: probabilities are raised to the power 1/T. For one step and one draw."""

    def __init__(self, model: Segmenter, temperature: float) -> None:
        self.model, self.temperature = model, temperature

    @property
    def label_space(self) -> LabelSpace:
        """Returns the label space of the model."""
        return self.model.label_space

    def predict(self, images: Images, **settings: Any) -> Prediction:
        """Predicts the same labels as the model, with lower (T > 1) or higher (T < 1) confidence."""
        answer = self.model.predict(images, **settings)
        powers = np.maximum(answer.probabilities, 1e-12) ** np.float32(1 / self.temperature)
        probabilities = powers / powers.sum(axis=-3, keepdims=True)
        return Prediction(answer.labels, probabilities, answer.mutual_information)


def fit_temperature(model: Segmenter, config: TrainConfig, num_images: int = 64) -> float:
    """Returns the temperature with the least cross-entropy on source and mixed images of a run.

    Target labels are not read.

    Args:
        model: Segmenter to calibrate.
        config: Configuration of the run, with the data sets.
        num_images: Number of image pairs.
    """
    space = model.label_space
    data = open_training(config.data, space, build_method(config, space))
    labeled, target = data.labeled, data.target
    assert target is not None
    size = config.data.target_size or config.data.crop
    rows = []
    for number in range(num_images):
        index, other = (number * (len(data) - 1) // max(1, num_images - 1) for data in (labeled, target))
        image, label = resize_image(labeled.image(index), size), resize_label(labeled.label(index), size)
        pair = [
            torch.from_numpy(x).movedim(-1, 0)[None] / 255
            for x in (image, resize_image(target.image(other), size))
        ]
        torch.manual_seed(number)
        labels = torch.from_numpy(label).long()[None]
        recolored = transfer_color(pair[0], pair[1])
        mask = class_mix_mask(labels)
        nothing = torch.full_like(labels, IGNORE)
        for shown, truth in (
            (recolored, labels),
            (torch.where(mask[:, None], recolored, pair[1]), torch.where(mask, labels, nothing)),
        ):
            answer = model.predict((255 * shown[0]).round().byte().movedim(0, -1).numpy())
            known = truth[0].numpy() != IGNORE
            logs = np.log(np.maximum(answer.probabilities[:, known][:, ::7], 1e-12))
            rows.append((logs, truth[0].numpy()[known][::7]))
    logs, truths = np.concatenate([r[0] for r in rows], axis=1), np.concatenate([r[1] for r in rows])

    def cross_entropy(log_temperature: float) -> float:
        scaled = logs / np.exp(log_temperature)
        return float(np.mean(logsumexp(scaled, axis=0) - scaled[truths, np.arange(len(truths))]))

    found = minimize_scalar(cross_entropy, bounds=(-1.5, 1.5), method="bounded")
    return float(np.exp(found.x))


@contextmanager
def dropout(model: ICCLD, share: float) -> Iterator[ICCLD]:
    """Drops a fraction of the input channels of the last layers of denoiser and decoder, until the context is left."""

    def drop(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (F.dropout2d(inputs[0], share), *inputs[1:])

    layers = (model.denoiser.out, model.label_decoder.head)
    hooks = [layer.register_forward_pre_hook(drop) for layer in layers]
    try:
        yield model
    finally:
        for hook in hooks:
            hook.remove()


def main() -> None:
    """Evaluates all variants and prints a table. With ``--json``, writes a JSON file."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    rows: dict[str, list[dict[str, float]]] = {}
    draws = arguments.draws

    def measure(name: str, model: Segmenter, run: Path, **settings: int) -> None:
        val = open_target(_config(run), "val")
        scores, trust = evaluate_trust(
            model, val, protocol_of(model.label_space), PredictSettings(**settings)
        )
        rows.setdefault(name, []).append({"miou": scores.miou, **trust})

    for run in arguments.diffusion:
        model = load_model(str(run), device="cpu")
        for steps, count in ((1, 1), (4, 1), (1, draws), (4, draws)):
            measure(f"ICCLD, K = {steps}, N = {count}", model, run, steps=steps, draws=count)
        temperature = fit_temperature(model, _config(run))
        print(f"{run}: temperature {temperature:.3f}")
        measure("ICCLD, K = 1, temperature fitted without target labels", Tempered(model, temperature), run)
    heads = [load_model(str(run), device="cpu") for run in arguments.deterministic]
    for head, run in zip(heads, arguments.deterministic, strict=True):
        measure("deterministic head", head, run)
        with dropout(head, arguments.dropout) as dropping:
            measure(
                f"the same, dropout {arguments.dropout:g}, {draws} passes", Committee([dropping] * draws), run
            )
    if len(heads) > 1:
        measure(f"ensemble of {len(heads)} seeds", Committee(heads), arguments.deterministic[0])
    shown = (
        "miou",
        "ece",
        "class_ece",
        *(f"{f}_{s}" for s in arguments.signals for f in ("auroc", "aurc", "fpr95")),
    )
    print("| | " + " | ".join(shown) + " |")
    print("|---|" + "---|" * len(shown))
    for name, seeds in rows.items():
        print(f"| {name} | " + " | ".join(_spread([seed[key] for seed in seeds]) for key in shown) + " |")
    if arguments.json:
        facts = {
            "command": describe_command("uncertainty.py"),
            **describe_code(),
            "machine": describe_machine(arguments.threads, "cpu"),
            "rows": rows,
        }
        write_json(arguments.json, facts)


def _config(run: Path) -> TrainConfig:
    settings = json.loads((run / "run.json").read_text(encoding="utf-8"))
    settings.pop("preset", None)
    return from_dict(settings)


def _spread(values: Sequence[float]) -> str:
    deviation = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{fmean(values):.3f}{deviation}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--diffusion", type=Path, nargs="*", default=[], help="runs of ICCLD")
    parser.add_argument(
        "--deterministic", type=Path, nargs="*", default=[], help="runs with a deterministic head"
    )
    parser.add_argument("--draws", type=int, default=8, help="noise draws, and passes with dropout")
    parser.add_argument("--dropout", type=float, default=0.1, help="share of channels dropped")
    parser.add_argument("--signals", nargs="*", default=["confidence", "mutual_information", "combined"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
