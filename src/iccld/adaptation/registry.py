"""Lookup of training methods by name. A method is built in or a class of another package."""

from __future__ import annotations

import importlib

from iccld.adaptation.method import Method
from iccld.errors import InputError, first_line
from iccld.methods import METHODS

_loaded: dict[str, type[Method]] = {}


def load_method(name: str) -> type[Method]:
    """Imports the class of a method. The import runs the code of the module.

    Settings from other people, such as the record of a run, must not cause code to run. Therefore, only the command
    line and the Python API call this function, with the name that the user gave. ``method_class`` never imports a
    module of another package.

    Args:
        name: A name in ``METHODS``, or ``module:class`` for a class of another package.

    Raises:
        InputError: The module cannot be imported, the class is missing, or the class is not a subclass of ``Method``.
    """
    module_name, _, class_name = METHODS.get(name, name).partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except AttributeError as error:
        raise InputError(f"method {name}: module {module_name!r} has no class {class_name!r}") from error
    except Exception as error:
        advice = "install its package, or set PYTHONPATH to its folder"
        raise InputError(f"method {name}: cannot be imported ({first_line(error)}); {advice}") from error
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise InputError(f"method {name}: is not a subclass of iccld.adaptation.method.Method")
    _loaded[name] = found
    return found


def method_class(name: str) -> type[Method]:
    """Returns the class of a built-in method, or of a method that ``load_method`` has imported.

    Raises:
        InputError: The class belongs to another package and has not been imported.
    """
    if name not in METHODS and name not in _loaded:
        raise InputError(f"method {name}: is code of another package; give --method {name} to load it")
    return _loaded.get(name) or load_method(name)
