"""``iccld data init``: detects the data set in a folder and writes its ``dataset.toml``."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from iccld.commands.flags import JsonFile, OptionalFolder
from iccld.commands.output import human_text, write_result
from iccld.errors import InputError
from iccld.files import write_text
from iccld.labels import get_label_space
from iccld.outputs import Places

if TYPE_CHECKING:
    from iccld.data.autodetect.guess import Guess

OptionalRole = Annotated[
    Literal["source", "target"] | None, arg(metavar="source|target", help_behavior_hint="")
]
ClassNames = Annotated[tuple[str, ...], arg(metavar="NAME...", help_behavior_hint="")]


@dataclass(frozen=True)
class DataInitArgs:
    """Detects the layout and the labels of a data set in a folder, and writes them to FOLDER/dataset.toml.

    Example: iccld data init datasets/mine

    Example: iccld data init datasets/masks --classes background road

    The command detects Cityscapes, GTA5, SYNTHIA, CamVid, Pascal VOC, BDD100K, Mapillary Vistas, IDD and ACDC. It
    also detects your own data: a folder images/, alone or with a folder labels/ of files with the same names. Labels
    can be trainIds, labelIds, your own ids, black-and-white masks or colors. Comments in dataset.toml explain what was
    found, what was guessed and what to check. Only names, headers and a few label maps are read.
    """

    folder: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """Folder of the data set."""
    role: OptionalRole = None
    """Role of the data set: source (labels for training are required) or target (no labels are required)."""
    classes: ClassNames = ()
    """Names of the classes in the order of their ids, if the files of the data set do not contain names."""
    out: OptionalFolder = None
    """Another folder for dataset.toml, for example if FOLDER is read-only."""
    force: bool = False
    """Replace an existing dataset.toml."""
    dry_run: bool = False
    """Print the file instead of writing it."""
    json: JsonFile = None
    """JSON file for the detected layout, splits, classes and notes."""

    def run(self) -> int:
        """Detects the data set, writes or prints the file, and returns the exit code."""
        place = self.out or self.folder
        path = place / "dataset.toml"
        Places(files={"--json": (self.json, "json")}, data=[self.folder]).check()
        if path.exists() and not self.force and not self.dry_run:
            ways = "--force replaces it, --dry-run shows what would be written"
            raise InputError(f"{path}: is there already; {ways}")

        from iccld.data.autodetect.detect import guess_folder
        from iccld.data.autodetect.guess import to_toml

        guess = guess_folder(self.folder, names=self.classes)
        bare = [name for name, entry in guess.splits.items() if not entry.labels]
        if self.role == "source" and ("train" in bare or len(bare) == len(guess.splits)):
            why = ", but its split train has none"
            if len(bare) == len(guess.splits):
                why = f": {' '.join(guess.notes) or 'no label maps were found'}"
            raise InputError(f"{self.folder}: a source needs labels to learn from{why}")
        text = to_toml(guess, role=self.role, outside=self.out is not None)
        with human_text(self.json):
            if self.dry_run:
                print(text, end="")
            else:
                write_text(path, text)
                self._report(guess, path, place)
        write_result(self.json, _to_json(guess, None if self.dry_run else path))
        return 0

    def _report(self, guess: Guess, path: Path, place: Path) -> None:
        from iccld.data.autodetect.guess import sections

        print(f"{self.folder}:")
        for title, sentences in sections(guess).items():
            for sentence in sentences:
                print(f"  {title.lower()}: {sentence}")
        print(f"written: {path}")
        if guess.builtin is not None:
            flag = f"--data.source {guess.builtin} (or --data.target)"
            print(f"{guess.layout} is built in too: {flag} works without the file")
        split = "" if "train" in guess.splits else f" --split {next(iter(guess.splits))}"
        outside = " --follow-outside" if self.out is not None else ""
        print(f"next: iccld data check folder {shlex.quote(str(place))}{split}{outside}")


def _to_json(guess: Guess, path: Path | None) -> dict[str, Any]:
    """Returns the detected properties for the JSON file.

    ``file`` is ``None`` if no file was written. ``label_maps`` is ``None`` if there are no label maps.
    """
    from iccld.data.autodetect.guess import sections

    classes = guess.meaning.keys["classes"] if guess.meaning is not None else None
    return {
        "file": None if path is None else str(path),
        "layout": guess.layout,
        "builtin": guess.builtin,
        "label_maps": None if guess.meaning is None else guess.meaning.text,
        "classes": list(get_label_space(classes).names if isinstance(classes, str) else classes or ()),
        "splits": {name: asdict(entry) for name, entry in guess.splits.items()},
        "notes": sections(guess)["Please check"],
    }
