"""Types of flags that several commands share: how they are shown in ``--help``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from iccld.documents import Range

Model = Annotated[Positional[str], arg(metavar="MODEL")]
"""A required model."""
OptionalModel = Annotated[Positional[str | None], arg(metavar="[MODEL]", help_behavior_hint="")]
Inputs = Annotated[Positional[tuple[str, ...]], arg(metavar="INPUT...", help_behavior_hint="(required)")]
"""One or more files, globs or folders."""
Runs = Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN...", help_behavior_hint="(required)")]
"""One or more folders of runs."""
OutFolder = Annotated[Path, arg(metavar="DIR")]
OptionalFolder = Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")]
OptionalFile = Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")]
Precision = Literal["auto", "fp32", "bf16"]
"""What a network computes in."""
JsonFile = Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(- for standard output)")]
"""Where a result goes as JSON; see ``iccld.commands.output``."""
OptionalName = Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")]
Count = Annotated[int, Range(1, 10**9)]
OptionalCount = Annotated[Count | None, arg(metavar="N", help_behavior_hint="")]
OptionalHeight = Annotated[Annotated[int, Range(0, 2**16)] | None, arg(metavar="N", help_behavior_hint="")]
"""In pixels; 0 for images as they are."""
OptionalSeconds = Annotated[
    Annotated[float, Range(1e-12, 1e9)] | None, arg(metavar="S", help_behavior_hint="")
]
_Pixels = Annotated[int, Range(1, 2**16)]
OptionalSize = Annotated[tuple[_Pixels, _Pixels] | None, arg(metavar="H W", help_behavior_hint="")]
"""Height and width in pixels."""
Threads = Annotated[int, Range(0, 4096)]
"""0 for automatic."""
Seed = Annotated[int, Range(0, 2**62)]
Overlap = Annotated[float, Range(0, 0.99)]
"""Share of a window."""
