"""The README.md that goes to the hub with a model: what it was trained on, what was measured, what it is not for.

Every figure comes from the run's own files; what they do not hold is said to be not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from iccld.documents import Length, build
from iccld.escaping import in_markdown
from iccld.labels import LabelSpace, protocol_of

_NOT_MEASURED = "not measured"
_SCENES = "street_scenes"
_USES = {
    "source_only": "Target images were not used.",
    "oracle": "It was trained on the target's own labels (an oracle): no adaptation.",
}


_Name = Annotated[str, Length(500)]


@dataclass(frozen=True)
class _Data:
    source: _Name
    source_look: _Name
    source_split: _Name
    target: _Name
    target_look: _Name
    target_split: _Name
    val_split: _Name
    crop: tuple[int, int]
    batch_size: int


@dataclass(frozen=True)
class _Model:
    pretrained: _Name


@dataclass(frozen=True)
class _Training:
    """What the card takes from the record of a training."""

    method: _Name
    preset: _Name
    step: int
    steps: int
    seed: int
    weights: _Name
    data: _Data
    model: _Model


def model_card(
    config: Mapping[str, Any],
    rows: Sequence[Mapping[str, str]],
    *,
    repo_id: str,
    license: str | None = None,
) -> str:
    """Writes the card.

    Args:
        config: of the model: its ``config.json``.
        rows: of the run's ``metrics.csv``; empty where it is not there.
        repo_id: where the model will lie.
        license: identifier of the weights' license, as the hub has it; None if there is none yet.

    Returns:
        Markdown with YAML front matter; names are text in it, never markup.

    Raises:
        InputError: what is recorded of the training is incomplete or of other types.
    """
    space = LabelSpace.from_dict(config["label_space"])
    training = config.get("training", {})
    if training:
        build(_Training, training, "training", others=True)
    figures = _figures(training, rows)
    parts = [
        _front_matter(training, figures, repo_id=repo_id, license=license),
        f"# {repo_id.partition('/')[2] or repo_id}\n\n{_summary(training, space)}",
        f"## Use\n\n{_use(repo_id)}",
        f"## Training\n\n{_training(training, config)}",
        f"## Figures\n\n{_scores(training, figures, space)}",
        f"## Limits\n\n{_limits(training, space)}",
        f"## License\n\n{_license(license)}",
    ]
    return "\n\n".join(parts) + "\n"


def _figures(training: Mapping[str, Any], rows: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """The evaluation of the weights themselves: of the step at which they were saved."""
    step = str(training.get("step"))
    row: Mapping[str, str] = next((r for r in rows if r.get("step") == step and "val/miou" in r), {})
    return {k.removeprefix("val/"): float(v) for k, v in row.items() if k.startswith("val/")}


def _front_matter(
    training: Mapping[str, Any], figures: Mapping[str, float], *, repo_id: str, license: str | None
) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    measured: dict[str, Any] = {}
    if figures:
        target = _data_set(training["data"], "target")
        result = EvalResult(
            task_type="image-segmentation",
            dataset_type=training["data"]["target"],
            dataset_name=target,
            dataset_split=training["data"]["val_split"],
            metric_type="mean_iou",
            metric_name="mIoU in percent",
            metric_value=round(figures["miou"], 2),
        )
        name = repo_id.partition("/")[2] or repo_id
        measured = {"metrics": ["mean_iou"], "eval_results": [result], "model_name": name}
    tags = ["semantic-segmentation", "domain-adaptation", "street-scenes", "uncertainty"]
    data = ModelCardData(
        library_name="iccld",
        pipeline_tag="image-segmentation",
        license=license,
        tags=tags,
        **measured,
    )
    return f"---\n{data.to_yaml(line_break=chr(10)).strip()}\n---"


def _data_set(data: Mapping[str, Any], side: str) -> str:
    """Names a data set of a run: source or target."""
    name = data[side]
    return f"{name}, {data[f'{side}_look']} look (generated)" if name == _SCENES else str(name)


def _summary(training: Mapping[str, Any], space: LabelSpace) -> str:
    text = f"Segments street images into {len(space)} classes ({in_markdown(space.name)}), with a map of uncertainty."
    if not training:
        return f"{text} How it was trained is not recorded."
    data = training["data"]
    used = _USES.get(training["method"], "Of the target's images no label was used in training.")
    return (
        f"{text} Trained with the library `iccld` ([arXiv 2412.16859](https://arxiv.org/abs/2412.16859)), method "
        f"{in_markdown(training['method'])}, "
        f"from {in_markdown(_data_set(data, 'source'))} to {in_markdown(_data_set(data, 'target'))}. {used}"
    )


def _use(repo_id: str) -> str:
    return (
        f"```sh\niccld predict {repo_id} IMAGES --out OUT      # labels, colors, overlays, uncertainty\n"
        f"iccld evaluate {repo_id} --dataset camvid --root DIR --split val\n```\n\n"
        "```python\nfrom iccld import ICCLD\n\n"
        f'model = ICCLD.from_pretrained("{repo_id}")\n'
        "prediction = model.predict(image)  # uint8 or [0, 1] RGB array (h, w, 3), any size\n"
        "prediction.labels, prediction.probabilities, prediction.uncertainty\n```\n\n"
        "Name a revision after an @ to stay with one version of the weights: "
        f"`{repo_id}@REVISION`."
    )


def _training(training: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    if not training:
        return "Not recorded in the model's `config.json`."
    data, crop = training["data"], training["data"]["crop"]
    labeled = _data_set(data, "target" if training["method"] == "oracle" else "source")
    unlabeled = _data_set(data, "target") if training["method"] not in ("source_only", "oracle") else "none"
    weights = "EMA teacher" if training.get("weights") == "ema_teacher" else str(training.get("weights"))
    rows = {
        "labeled data": f"{labeled}, split {data['source_split']}",
        "unlabeled data": unlabeled if unlabeled == "none" else f"{unlabeled}, split {data['target_split']}",
        "preset, method": f"{training['preset']}, {training['method']}",
        "backbone": f"{config['model']['backbone']} (pretrained: {training['model']['pretrained']})",
        "steps": f"{training['step']} of {training['steps']}",
        "batch": f"{data['batch_size']} images a branch, crops of {crop[0]}×{crop[1]} pixels",
        "seed": f"{training['seed']} (one run)",
        "weights": f"{weights} of step {training['step']}; no checkpoint was chosen by a score",
    }
    if training["method"] == "oracle":
        rows["labeled data"] = f"{labeled}, split {data['target_split']}"
    lines = ["| | |", "|---|---|", *(f"| {in_markdown(k)} | {in_markdown(v)} |" for k, v in rows.items())]
    return "\n".join([*lines, "", "Every setting stands in `config.json`."])


def _scores(training: Mapping[str, Any], figures: Mapping[str, float], space: LabelSpace) -> str:
    if not figures:
        return f"mIoU: {_NOT_MEASURED}. The run's files hold no evaluation of these weights."
    protocol, data = protocol_of(space), training["data"]
    lines = [
        f"On {in_markdown(_data_set(data, 'target'))}, split {in_markdown(data['val_split'])}; protocol "
        f"{in_markdown(protocol.name)}; one denoising step, "
        "one noise draw, whole images; one seed.",
        "",
        "| class | IoU % |",
        "|---|---:|",
    ]
    for name in protocol.names:
        value = figures.get(f"iou/{name}")
        lines.append(f"| {in_markdown(name)} | {_NOT_MEASURED if value is None else f'{value:.1f}'} |")
    lines.append(f"| **mIoU** | **{figures['miou']:.1f}** |")
    if "pixel_accuracy" in figures:
        lines.append(f"| pixel accuracy | {figures['pixel_accuracy']:.1f} |")
    return "\n".join(lines)


def _limits(training: Mapping[str, Any], space: LabelSpace) -> str:
    lines = [
        f"- It knows {', '.join(map(in_markdown, space.names))}, and calls everything else one of these.",
        "- Not for safety: do not steer a vehicle by it, nor decide about people.",
        "- Its uncertainty is the entropy of its own probabilities; whether these are right on other cameras was "
        f"{_NOT_MEASURED}.",
    ]
    if training:
        data = training["data"]
        lines[1:1] = [
            f"- Its budget was {training['step']} steps with one seed; other seeds give other figures.",
            "- Other cameras, places or weather than those of "
            f"{in_markdown(_data_set(data, 'target'))}: {_NOT_MEASURED}.",
        ]
    return "\n".join(lines)


def _license(license: str | None) -> str:
    if license is None:
        return (
            "License: not stated. The software is under Apache-2.0, but weights may be bound by the license of the "
            "data they were trained on, which only their publisher can settle (`iccld push --license`)."
        )
    return f"The weights: {in_markdown(license)}, as stated by their publisher. The software: Apache-2.0."
