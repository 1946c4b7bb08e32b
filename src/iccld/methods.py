"""Names of the training methods. The module loads no classes, so the command line starts without torch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from iccld.documents import Form
from iccld.plugins import is_outside

METHODS: Mapping[str, str] = {
    "iccld": "iccld.adaptation.iccld:Adaptation",
    "source_only": "iccld.adaptation.method:SourceOnly",
    "oracle": "iccld.adaptation.method:Oracle",
    "adaptsegnet": "iccld.adaptation.adaptsegnet:AdaptSegNet",
    "advent": "iccld.adaptation.adaptsegnet:Advent",
    "minent": "iccld.adaptation.fda:MinEnt",
    "fda": "iccld.adaptation.fda:FDA",
    "dacs": "iccld.adaptation.dacs:DACS",
    "daformer": "iccld.adaptation.daformer:DAFormer",
    "mic": "iccld.adaptation.daformer:MIC",
}
"""Classes of the training methods by name, as ``module:class``. A new method needs one line here."""


if TYPE_CHECKING:
    MethodName = str
else:
    OutsideMethod = Annotated[
        str, Form(partial(is_outside, "method"), "a method of another package as module:class")
    ]
    MethodName = Literal[tuple(METHODS)] | OutsideMethod
