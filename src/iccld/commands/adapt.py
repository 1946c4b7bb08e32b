"""``iccld adapt``: adapts a trained model to unlabeled images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from iccld.commands.output import print_usage
from iccld.commands.train import last_value, run_preset
from iccld.exits import OUTCOMES
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
        from iccld.models.warm_start import like_stored

        config = like_stored(config, last_value(flags, "--model.init") or str(config.model.init))
    flags = ["--data.target-root", images, *flags]
    about = "Adapts a trained model to a folder of unlabeled images."
    code = run_preset(_PRESET, config, flags, program="iccld adapt IMAGES", about=about)
    if code == OUTCOMES["finished"]:
        out = last_value(flags, "--out") or str(Path("runs") / _PRESET)
        print(f"predict with: iccld predict {out} {images} --out predictions")
    return code
