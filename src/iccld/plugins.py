"""Classes of other packages: training methods, backbones and data sets.

An installed package offers its classes by entry points, in the group ``iccld.methods``, ``iccld.backbones`` or
``iccld.datasets``. The names of the entry points can be used like those of built-in classes. In addition, users can
name any importable class as ``module:class``. Importing a module runs its code. Such a class is therefore imported only
if the user names it in a flag, in a call, or in the environment variable ``ICCLD_IMPORT`` (names separated by commas),
but not because a stored model, the record of a run or a bench plan names it.
"""

from __future__ import annotations

import importlib
import os
import re
from dataclasses import is_dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from inspect import get_annotations
from typing import Any, Literal, TypeVar

from iccld.errors import InputError, first_line

T = TypeVar("T")
Kind = Literal["method", "backbone", "dataset"]
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

_VARIABLE = "ICCLD_IMPORT"

_imported: dict[tuple[Kind, str], Any] = {}


class OutsideCodeError(InputError):
    """Error for a class of another package that is neither installed nor named by the user."""


def is_reference(name: str) -> bool:
    """Returns whether a name has the form ``module:class`` and does not begin with ``auto:``."""
    return not name.startswith("auto:") and _REFERENCE.fullmatch(name) is not None


@cache
def installed(kind: Kind) -> dict[str, EntryPoint]:
    """Returns the entry points of the installed packages by name."""
    return {point.name: point for point in entry_points(group=f"iccld.{kind}s")}


def is_outside(kind: Kind, name: str) -> bool:
    """Returns whether a name that is not built in can be a class of another package."""
    return is_reference(name) or name in installed(kind)


def import_class(kind: Kind, name: str) -> None:
    """Imports the class ``module:class``, which the user has named. ``find_class`` then returns it.

    Raises:
        InputError: The module cannot be imported, or has no such class.
    """
    module_name, _, class_name = name.partition(":")
    try:
        _imported[kind, name] = getattr(importlib.import_module(module_name), class_name)
    except AttributeError as error:
        raise InputError(f"{kind} {name}: module {module_name!r} has no class {class_name!r}") from error
    except Exception as error:
        is_missing = isinstance(error, ModuleNotFoundError)
        advice = (
            "install its package, or set PYTHONPATH to its folder" if is_missing else "correct its module"
        )
        raise InputError(f"{kind} {name}: cannot be imported ({first_line(error)}); {advice}") from error


def find_class(kind: Kind, name: str, base: type[T]) -> type[T]:
    """Returns a class of another package that is installed, or that ``import_class`` has imported.

    Raises:
        InputError: There is no such class, or it is not a subclass of ``base``.
    """
    if is_reference(name) and name in os.environ.get(_VARIABLE, "").split(","):
        import_class(kind, name)
    found = _imported.get((kind, name))
    if found is None and name in installed(kind):
        try:
            found = installed(kind)[name].load()
        except Exception as error:
            what = f"cannot be imported from its package ({first_line(error)})"
            raise InputError(f"{kind} {name}: {what}; update or remove the package") from error
    if found is None:
        problem = f"{kind} {name}: is code of another package, which is imported only if you name it"
        use = f"set {_VARIABLE}={name}, or install the package with an entry point in iccld.{kind}s"
        raise OutsideCodeError(f"{problem}; {use}")
    if not (isinstance(found, type) and issubclass(found, base)):
        raise InputError(f"{kind} {name}: is not a subclass of {base.__module__}.{base.__name__}")
    if is_dataclass(base) and get_annotations(found) and "__dataclass_fields__" not in vars(found):
        raise InputError(
            f"{kind} {name}: has fields but is no dataclass; write @dataclass(frozen=True) above it"
        )
    return found
