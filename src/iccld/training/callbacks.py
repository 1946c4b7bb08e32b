"""Functions that a training run calls after steps, checkpoints and evaluations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor


def do_nothing(*_: object) -> None:
    """Default of every callback."""


@dataclass(frozen=True)
class Callbacks:
    """Functions that a training run calls on the first rank. An exception in one of these functions ends the run.

    Attributes:
        on_step: Called after each step with the number of finished steps and the metrics of this step by name, as
            tensors on the device. If the function reads the values of the tensors, the GPU is synchronized.
        on_checkpoint: Called after each checkpoint with the number of finished steps and the folder of checkpoints.
        on_evaluation: Called after each evaluation with the number of finished steps and the metrics by name, such as
            ``val/miou`` in percent.
    """

    on_step: Callable[[int, Mapping[str, Tensor]], object] = do_nothing
    on_checkpoint: Callable[[int, Path], object] = do_nothing
    on_evaluation: Callable[[int, Mapping[str, float]], object] = do_nothing
