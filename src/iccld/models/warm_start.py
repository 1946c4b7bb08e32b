"""Start of training from the weights of a stored model, with classes matched by name."""

from __future__ import annotations

from pathlib import Path

import torch

from iccld.errors import InputError
from iccld.labels import LabelSpace
from iccld.models.iccld import ICCLD

_CLASS_AXES = {
    "label_decoder.head.weight": 0,
    "label_decoder.head.bias": 0,
    "label_encoder.codes.weight": 1,
    "label_encoder.stem.weight": 1,
}
"""Axis of the classes in each weight tensor that has such an axis."""
_SAME = ("backbone", "latent_channels", "width", "light_steps")
ARCHITECTURE = (*_SAME, "context_links", "detail_links", "diffusion", "reencoding")
"""Fields of ``ModelSpec`` that are also model settings of a run."""


@torch.no_grad()
def warm_start(model: ICCLD, source: str | Path) -> tuple[str, ...]:
    """Copies the weights of a stored model to a new model.

    A class is matched with the stored class of the same name. If there is no such stored class, the trainIds of the
    class are tried in order until a stored class covers the trainId. The weights of a class without a match keep their
    initial values. The same is true for weights that the stored model lacks.

    Args:
        model: New model, whose weights are replaced.
        source: Folder or hub id of the stored model.

    Returns:
        The names of the classes without a match.

    Raises:
        InputError: The stored model cannot be loaded, it has another architecture, or no class matches.
    """
    stored = ICCLD.from_pretrained(source)
    for name in _SAME:
        own, theirs = getattr(model.spec, name), getattr(stored.spec, name)
        if own != theirs:
            flag = f"--model.{name.replace('_', '-')}"
            raise InputError(
                f"--model.init {source}: its {flag} is {theirs}, not {own}; give {flag} {theirs}"
            )
    matches = _match(stored.label_space, model.label_space)
    if not matches:
        known = ", ".join(stored.label_space.names[:5])
        raise InputError(f"--model.init {source}: none of its classes ({known} …) is a class of this run")
    rows, stored_rows = list(matches), list(matches.values())
    weights, known_weights = model.state_dict(), stored.state_dict()
    for name in weights.keys() & known_weights.keys():
        axis = _CLASS_AXES.get(name)
        if axis is None:
            weights[name].copy_(known_weights[name])
        else:
            chosen = known_weights[name].index_select(axis, torch.tensor(stored_rows))
            weights[name].index_copy_(axis, torch.tensor(rows), chosen)
    return tuple(name for index, name in enumerate(model.label_space.names) if index not in matches)


def _match(stored: LabelSpace, own: LabelSpace) -> dict[int, int]:
    """Maps the index of each class of ``own`` that has a match to the index of the matching stored class."""
    by_name = {name: index for index, name in enumerate(stored.names)}
    by_train_id = {t: i for i, c in reversed([*enumerate(stored.classes)]) for t in c.train_ids}
    candidates = (
        [by_name.get(c.name), *(by_train_id.get(train_id) for train_id in c.train_ids)] for c in own.classes
    )
    found = ((i, next((x for x in known if x is not None), None)) for i, known in enumerate(candidates))
    return {index: match for index, match in found if match is not None}
