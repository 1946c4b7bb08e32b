"""Command line: finds the given command, runs it, and returns an exit code.

Only the module of the given command is imported, so that ``iccld --help`` is fast.
"""

from __future__ import annotations

import contextlib
import pkgutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from iccld import __version__
from iccld.commands.output import environment_variable, print_usage
from iccld.errors import InputError
from iccld.exits import run_guarded
from iccld.labels import suggest


@dataclass(frozen=True)
class Command:
    """Command of ``iccld``.

    Attributes:
        name: Name of one or two words.
        help: One-line description in ``iccld --help``.
        entry: Entry point ``module:object`` within ``iccld.commands``. The object is a dataclass or a function. The
            dataclass has a method ``run() -> int``, and tyro makes flags from its fields. The function
            ``main(rest) -> int`` parses the arguments after the name of the command.
    """

    name: str
    help: str
    entry: str


COMMANDS = (
    Command("demo", "train on generated scenes, small; shows what adaptation gains", "demo:DemoArgs"),
    Command("train", "train a preset; run the same command again to resume", "train:main"),
    Command("adapt", "adapt a trained model to a folder of unlabeled images", "adapt:main"),
    Command("evaluate", "measure mIoU and per-class IoU on labeled images", "evaluate:EvaluateArgs"),
    Command("predict", "segment images, folders or video; uncertainty maps", "predict:PredictArgs"),
    Command("report", "one HTML page of a run, or of several side by side", "report:ReportArgs"),
    Command("rank", "order unlabeled frames by what to label next", "rank:RankArgs"),
    Command("app", "try a model on images and clips in the browser", "app:AppArgs"),
    Command("export", "write a model for ONNX Runtime or OpenVINO", "export:ExportArgs"),
    Command("push", "upload a model and its card to the Hugging Face hub", "push:PushArgs"),
    Command("bench", "compare methods over seeds and tasks from a plan", "bench:BenchArgs"),
    Command("tune", "search for settings, by scores without target labels", "tune:TuneArgs"),
    Command("data init", "look at a folder and write its dataset.toml", "data:DataInitArgs"),
    Command("data check", "check a data set's files, sizes and labels", "data:DataCheckArgs"),
    Command("data cache", "decode a run's training images once, to disk", "train:main_cache"),
    Command("data manifest", "list images in a file, which predict takes", "manifest:DataManifestArgs"),
    Command("data shards", "pack a data set into tar archives (WebDataset)", "shards:DataShardsArgs"),
    Command("data export", "write predictions for CVAT, Label Studio or COCO", "annotations:DataExportArgs"),
    Command("data scenes", "write generated street scenes to disk", "scenes:DataScenesArgs"),
    Command("completion", "print a completion script for bash, zsh or fish", "completion:main"),
    Command("doctor", "describe this machine and installation; what would be slow", "doctor:DoctorArgs"),
    Command("presets", "list the named runs, or show one in full", "presets:PresetsArgs"),
)

_HELP = ("--help", "-h")
_FOLLOW_OUTSIDE = "--follow-outside"
_EXAMPLES = """\
examples:
  iccld demo --out runs/demo
  iccld presets
  iccld train PRESET --help
  iccld COMMAND --help
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. ``argv`` contains the command-line arguments after ``iccld``, by default ``sys.argv[1:]``.

    Returns:
        The exit code: 0 for success, 1 if the work or a part of it failed, 2 for bad input or usage, 130 if
        interrupted, 143 if terminated, 141 if the reader of the output closed the pipe.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        # On Windows, the encoding of a file or pipe can lack characters such as "→". A missing character is printed as
        # a question mark, because an exception would end the command.
        with contextlib.suppress(AttributeError):  # the stream may be ``None`` or lack ``reconfigure``
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    # The variable is read by iccld.data.folders, also in child processes.
    with environment_variable("ICCLD_FOLLOW_OUTSIDE", "1" if _FOLLOW_OUTSIDE in words else None):
        return run_guarded(lambda: _dispatch([word for word in words if word != _FOLLOW_OUTSIDE]))


def help_text() -> str:
    """Returns the text of ``iccld --help``."""
    return (
        "usage: iccld COMMAND [flags]\n\n"
        "Semantic segmentation of real streets, learned from labeled synthetic ones.\n\n"
        f"commands:\n{_listing(COMMANDS)}\n\n"
        "  --help, -h        this text; after a command, its flags\n"
        "  --version         the version\n"
        f"  {_FOLLOW_OUTSIDE}  after a command: links may lead out of named folders\n\n"
        f"{_EXAMPLES}"
    )


def _listing(commands: Sequence[Command]) -> str:
    width = max(len(command.name) for command in commands)
    return "\n".join(f"  {command.name:<{width}}  {command.help}" for command in commands)


def _dispatch(words: list[str]) -> int:
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    if words == ["--version"]:
        print(f"iccld {__version__}")
        return 0
    if not words or words[0] in _HELP:
        return print_usage(help_text(), asked=bool(words))
    for command in COMMANDS:
        name = command.name.split()
        if words[: len(name)] == name:
            return _run(command, words[len(name) :])
    first, *rest = words
    group = [command for command in COMMANDS if command.name.startswith(f"{first} ")]
    if group and (not rest or rest[0] in _HELP):
        usage = f"usage: iccld {first} COMMAND [flags]\n\n{_listing(group)}"
        return print_usage(f"{usage}\n\nexample:\n  iccld {group[0].name} --help\n", asked=bool(rest))
    known = [command.name.split()[bool(group)] for command in group or COMMANDS]
    unknown = words[: 1 + bool(group)]
    hint = suggest(unknown[-1], list(dict.fromkeys(known)))
    raise InputError(f"unknown command {' '.join(unknown)!r}; {hint}; see iccld --help")


def _run(command: Command, rest: list[str]) -> int:
    target = pkgutil.resolve_name(f"iccld.commands.{command.entry}")
    if command.name == "completion":  # completions need the entry points of all commands
        return int(target(rest, {command.name: command.entry for command in COMMANDS}))
    if not isinstance(target, type):
        return int(target(rest))
    from iccld.commands.flags import parse

    arguments: Any = parse(target, rest, prog=f"iccld {command.name}")
    return int(arguments.run())
