"""Types of flags that several commands share, with the placeholders of these flags in ``--help``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from iccld.documents import Range
from iccld.models.settings import PredictSettings

Model = Annotated[Positional[str], arg(metavar="MODEL")]
"""Required model."""
OptionalModel = Annotated[Positional[str | None], arg(metavar="[MODEL]", help_behavior_hint="")]
Inputs = Annotated[Positional[tuple[str, ...]], arg(metavar="INPUT...", help_behavior_hint="(required)")]
"""One or more files, glob patterns or folders."""
Runs = Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN...", help_behavior_hint="(required)")]
"""One or more folders of runs."""
OutFolder = Annotated[Path, arg(metavar="DIR")]
OptionalFolder = Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")]
OptionalFile = Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")]
JsonFile = Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(- for standard output)")]
"""File for a command's result as JSON, or ``-`` for standard output. See ``iccld.commands.output``."""
OptionalName = Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")]
Count = Annotated[int, Range(1, 10**9)]
OptionalCount = Annotated[Count | None, arg(metavar="N", help_behavior_hint="")]
OptionalSeconds = Annotated[
    Annotated[float, Range(1e-12, 1e9)] | None, arg(metavar="S", help_behavior_hint="")
]
Threads = Annotated[int, Range(0, 4096)]
"""Number of threads or processes. 0 means automatic."""
Seed = Annotated[int, Range(0, 2**62)]
Prediction = Annotated[PredictSettings, OmitArgPrefixes]
"""Settings of prediction. Their fields are flags of every command that runs a model."""
