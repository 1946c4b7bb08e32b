"""``iccld completion``: prints completion scripts for bash, zsh and fish, and completions requested by the scripts."""

from __future__ import annotations

import dataclasses
import pkgutil
import sys
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tyro.conf import OmitArgPrefixes, Positional

from iccld.commands.output import print_usage
from iccld.commands.train import DataCacheArgs, TrainArgs
from iccld.errors import InputError
from iccld.labels import suggest
from iccld.presets import PRESETS

_USAGE = """\
usage: iccld completion bash|zsh|fish

Prints a script that completes commands, presets, flags and their choices.

example:
  eval "$(iccld completion bash)"                                       in ~/.bashrc
  eval "$(iccld completion zsh)"                                        in ~/.zshrc, after compinit
  iccld completion fish > ~/.config/fish/completions/iccld.fish
"""

# The scripts are next to this file. A script calls `iccld completion --words …` with the command-line arguments
# typed so far, and the last argument is completed. If there is no output, the shell completes file names.
_SHELLS = ("bash", "zsh", "fish")
_RUNS = {"train": TrainArgs, "data cache": DataCacheArgs, "adapt": TrainArgs}
"""Dataclasses of flags by command, for the commands whose flags are settings of a run."""
_OF_PRESETS = ("train", "data cache", "presets")
"""Commands whose first argument is the name of a preset."""


def main(rest: Sequence[str], commands: Mapping[str, str]) -> int:
    """Runs ``iccld completion`` with the given command-line arguments and returns the exit code.

    ``commands`` maps the names of all commands to their entry points ``module:object`` within ``iccld.commands``.
    """
    if rest and rest[0] == "--words":
        sys.stdout.writelines(f"{answer}\n" for answer in complete(rest[1:], commands))
        return 0
    if not rest or rest[0] in ("-h", "--help"):
        return print_usage(_USAGE, asked=bool(rest))
    if rest[0] not in _SHELLS:
        raise InputError(f"unknown shell {rest[0]!r}; {suggest(rest[0], _SHELLS)}")
    sys.stdout.write(Path(__file__).with_suffix(f".{rest[0]}").read_text(encoding="utf-8"))
    return 0


def complete(words: Sequence[str], commands: Mapping[str, str]) -> list[str]:
    """Returns the sorted completions of the last argument in ``words``.

    If the list of completions is empty, the shell completes file names.
    """
    *before, last = words or ("",)
    answers: list[str] = [] if before else ["--help", "--version"]
    for name, entry in commands.items():
        parts = name.split()
        if before[: len(parts)] == parts:
            answers += _in_command(name, entry, before[len(parts) :], last)
        elif before == parts[: len(before)]:
            answers.append(parts[len(before)])
    return sorted({answer for answer in answers if answer.startswith(last)})


def _in_command(name: str, entry: str, before: Sequence[str], last: str) -> Sequence[str]:
    if name == "completion":
        return _SHELLS
    if name in _OF_PRESETS and not before and not last.startswith("-"):
        return list(PRESETS)
    flags = flags_of(_RUNS.get(name) or pkgutil.resolve_name(f"iccld.commands.{entry}"))
    if last.startswith("-"):
        return [*flags, "--help"]
    previous = next((word for word in reversed(before) if word.startswith("--")), "")
    return flags.get(previous, ())


def flags_of(kind: Any, prefix: str = "") -> dict[str, tuple[str, ...]]:
    """Returns the flags that tyro makes from a dataclass, each with its choices.

    Flags without a value and flags that accept any value have no choices. ``prefix`` is the beginning of the flags'
    names.
    """
    flags: dict[str, tuple[str, ...]] = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        name, annotations = name.replace("_", "-"), getattr(hint, "__metadata__", ())
        if Positional in annotations:
            continue
        plain = typing.get_args(hint)[0] if annotations else hint
        if dataclasses.is_dataclass(plain):
            flags |= flags_of(plain, prefix if OmitArgPrefixes in annotations else f"{prefix}{name}.")
        elif plain is bool:
            flags |= {f"--{prefix}{name}": (), f"--{prefix}no-{name}": ()}
        else:
            flags[f"--{prefix}{name}"] = _choices(plain)
    return flags


def _choices(hint: Any) -> tuple[str, ...]:
    if typing.get_origin(hint) is Literal:
        return tuple(map(str, typing.get_args(hint)))
    return tuple(choice for part in typing.get_args(hint) for choice in _choices(part))
