"""Models in folders and on the hub: ``save_pretrained``, ``from_pretrained``, ``push_to_hub``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from torch import nn

from iccld.documents import Range, build
from iccld.errors import InputError
from iccld.escaping import shortened
from iccld.labels import LabelSpace
from iccld.models import storage
from iccld.models.hub import push_files


@dataclass(frozen=True)
class ModelSpec:
    """Everything needed to build the network again; stored in ``config.json``."""

    backbone: str = "compact"
    latent_channels: Annotated[int, Range(1, 1024)] = 16
    width: Annotated[int, Range(1, 8192)] = 96
    context_links: bool = True
    detail_links: bool = True
    diffusion: bool = True
    reencoding: bool = True
    light_steps: bool = False
    input_height: Annotated[int, Range(0, 16384)] = 0
    backbone_config: dict[str, Any] | None = None


class Pretrained(nn.Module):
    """A network that is stored as ``model.safetensors`` and ``config.json``.

    Attributes:
        label_space: the classes and colors that the outputs mean.
        spec: what the network is built from.
    """

    label_space: LabelSpace
    spec: ModelSpec

    def save_pretrained(self, folder: str | Path, *, extra: Mapping[str, Any] | None = None) -> None:
        """Writes ``model.safetensors`` and ``config.json`` (classes and palette inside), each atomically.

        Args:
            folder: made if missing.
            extra: further facts for ``config.json``, such as how the model was trained.
        """
        spec = {key: value for key, value in asdict(self.spec).items() if value is not None}
        config = {"label_space": self.label_space.to_dict(), "model": spec, **(extra or {})}
        storage.save_model(folder, self.state_dict(), config)

    @classmethod
    def from_pretrained(cls, source: str | Path) -> Self:
        """Loads a model from a folder that ``save_pretrained`` wrote, or from a hub id.

        Args:
            source: a folder, ``user/model``, or ``user/model@revision`` (a branch, tag or commit).

        Raises:
            InputError: no such folder or id, a truncated file, or weights that do not fit the configuration.
        """
        folder = storage.find_model(source)
        config = storage.read_config(folder)
        try:
            space = LabelSpace.from_dict(config.get("label_space"))
            stored = config.get("model")
            # Models stored before re-encoding existed do not know it.
            spec = build(
                ModelSpec, {"reencoding": False, **stored} if isinstance(stored, dict) else stored, "model"
            )
        except InputError as error:
            raise storage.not_a_model(folder, error) from error
        if spec.backbone.startswith("auto:") and spec.backbone_config is None:
            raise InputError(
                f"{folder / storage.CONFIG}: has no configuration of its backbone {shortened(spec.backbone)}, which is "
                "not fetched; save the model again where that backbone is known"
            )
        model = storage.load_network(lambda: cls(space, **vars(spec)), folder, num_classes=len(space))
        return model.eval()

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Uploads the model to a Hugging Face repository and returns its address.

        ``iccld push`` does the same for a run's folder, and writes a model card.

        Raises:
            InputError: nothing was uploaded; says why.
        """

        def write(folder: Path) -> list[str]:
            self.save_pretrained(folder)
            return [storage.WEIGHTS, storage.CONFIG]

        return push_files(write, repo_id, private=private, token=token)[0]
