"""``iccld adapt``: adapts a trained model to unlabeled images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from iccld.commands.output import print_usage
from iccld.commands.train import last_value, run_preset
from iccld.config import TrainConfig, with_settings
from iccld.errors import InputError
from iccld.exits import OUTCOMES
from iccld.labels import LABEL_SPACES, protocol_of
from iccld.presets import get_preset

_USAGE = """\
usage: iccld adapt IMAGES [--model.init MODEL] [flags of iccld train]

Adapts a trained model to a folder of unlabeled images. Street scenes are the labeled source. The same command again
resumes the run. MODEL is streets (built in, the default), the folder of a run, or a hub id. The adapted model has the
architecture and the classes of MODEL.

examples:
  iccld adapt MY_IMAGES --out runs/mine
  iccld adapt MY_IMAGES --out runs/mine --model.init runs/earlier --steps 1000
  iccld adapt MY_IMAGES --help     every flag, with its default
"""
_PRESET = "adapt"


def main(rest: Sequence[str]) -> int:
    """Runs ``iccld adapt`` with the given command-line arguments and returns the exit code."""
    if not rest or rest[0].startswith("-"):
        return print_usage(_USAGE, asked=rest[:1] in (["-h"], ["--help"]))
    images, *flags = rest
    config = get_preset(_PRESET).config
    if {"-h", "--help"}.isdisjoint(flags):
        config = like_stored(config, last_value(flags, "--model.init") or str(config.model.init))
    flags = ["--data.target-root", images, *flags]
    about = "Adapts a trained model to a folder of unlabeled images."
    code = run_preset(_PRESET, config, flags, program="iccld adapt IMAGES", about=about)
    if code == OUTCOMES["finished"]:
        out = last_value(flags, "--out") or str(Path("runs") / _PRESET)
        print(f"predict with: iccld predict {out} {images} --out predictions")
    return code


def like_stored(config: TrainConfig, source: str | Path) -> TrainConfig:
    """Returns a copy of the settings with the classes, architecture and input height of a stored model.

    The setting ``model.init`` becomes ``source``. The widths of images keep their ratio to the height.

    Raises:
        InputError: The model cannot be loaded, or its classes are not those of a built-in label space.
    """
    from iccld.models.storage import read_model
    from iccld.models.warm_start import ARCHITECTURE

    _, space, spec, _ = read_model(source)
    name = protocol_of(space).name
    if name not in LABEL_SPACES:
        problem = f"{source}: its classes ({', '.join(space.names[:5])} …) are not those of a built-in list"
        raise InputError(f"{problem}; adapt it with iccld train folder_to_folder --model.init {source}")
    settings = {f"model.{field}": getattr(spec, field) for field in ARCHITECTURE}
    sizes = {"data.source_size": config.data.source_size, "data.target_size": config.data.target_size}
    for setting, size in sizes.items():
        if spec.input_height and size is not None:
            settings[setting] = (spec.input_height, round(spec.input_height * size[1] / size[0]))
    return with_settings(config, {"model.init": str(source), "data.label_space": name, **settings})
