"""ICCLD: inter-coder connected latent diffusion for unsupervised domain-adaptive semantic segmentation.

The public names, such as ``iccld.ICCLD``, are imported at first access. ``import iccld`` alone therefore loads neither
torch nor numpy.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iccld.api import Run, evaluate, predict, train
    from iccld.models.iccld import ICCLD
    from iccld.models.prediction import Prediction
    from iccld.models.result import Result

__version__ = "0.1.0"

# With the policy PASSIVE, waiting OpenMP threads sleep instead of spinning. Spinning threads make every step many times
# slower if other programs use the same processors. OpenMP reads the policy when torch is imported, so the
# policy is set here.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

__all__ = ["ICCLD", "Prediction", "Result", "Run", "__version__", "adapt", "evaluate", "predict", "train"]

_HOMES = {
    "ICCLD": "iccld.models.iccld",
    "Prediction": "iccld.models.prediction",
    "Result": "iccld.models.result",
    **dict.fromkeys(("Run", "adapt", "evaluate", "predict", "train"), "iccld.api"),
}


def __getattr__(name: str) -> object:
    """Imports a public object at first access and returns the object."""
    if name not in _HOMES:
        raise AttributeError(f"module 'iccld' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
