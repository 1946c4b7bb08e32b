"""The oracle: supervised training on the target's own labels. No adaptation method; the level to measure it against."""

from __future__ import annotations

from dataclasses import dataclass

from iccld.adaptation.source_only import SourceOnly


@dataclass(frozen=True)
class Oracle(SourceOnly):
    """Equation 8 on labeled target images, which no adaptation method may see."""

    labeled_domain: str = "target"
