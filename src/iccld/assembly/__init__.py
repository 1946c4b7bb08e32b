"""The one place where a configuration becomes objects."""

from __future__ import annotations

from iccld.assembly.datasets import (
    RunData,
    build_data,
    build_evaluation,
    build_label_space,
    build_target,
    build_val,
    describe_run_data,
    open_data,
)
from iccld.assembly.demand import refuse_impossible
from iccld.assembly.engine import build_fabric
from iccld.assembly.loaders import build_caches, build_loaders
from iccld.assembly.methods import build_method, reopen_data
from iccld.assembly.networks import build_discriminator, build_model, lacks_weights
from iccld.assembly.ranks import explaining_lost_ranks, require_equal_ranks

__all__ = [
    "RunData",
    "build_caches",
    "build_data",
    "build_discriminator",
    "build_evaluation",
    "build_fabric",
    "build_label_space",
    "build_loaders",
    "build_method",
    "build_model",
    "build_target",
    "build_val",
    "describe_run_data",
    "explaining_lost_ranks",
    "lacks_weights",
    "open_data",
    "refuse_impossible",
    "reopen_data",
    "require_equal_ranks",
]
