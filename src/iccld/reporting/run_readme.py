"""``README.txt`` of a run's folder: what each file is and what to do with it, on one screen."""

from __future__ import annotations

from pathlib import Path

from iccld.escaping import visible
from iccld.files import write_text

_TEXT = """\
A run of iccld (unsupervised domain adaptation of semantic segmentation).

report.html        look here first: scores, curves, images, calibration (any browser)
model.safetensors  the model (EMA teacher of the last step), once the run is finished
config.json        its classes, colors and architecture; belongs to model.safetensors
run.json           every setting of the training; data.json: what its data are
metrics.csv        losses and scores by step; curves.png and adversary.png draw them
checkpoints/       what resuming needs; without it the same command starts over
threads.json       how many threads computed, from which step on, and why
report.json        what was measured for report.html
tensorboard/       the same for TensorBoard; trackers.json: ids of the run at W&B and MLflow
cache/             class counts; may be removed

Predict      iccld predict {run} IMAGES --out OUT
Evaluate     iccld evaluate {run} --dataset NAME --root DIR --report scores.html
Report       iccld report {run}          (with further runs: side by side)
Export       iccld export {run} --format onnx

Resume, or train longer with a higher --steps, by the same command:
  {command}
"""


def write_readme(folder: Path, *, command: str) -> Path:
    """Writes the file.

    Args:
        folder: of the run.
        command: what trains it.
    """
    return write_text(folder / "README.txt", _TEXT.format(run=visible(str(folder)), command=visible(command)))
