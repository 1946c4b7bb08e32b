"""``iccld data init``, ``iccld data check`` and ``iccld data scenes``: commands for data sets on disk."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from iccld.commands.flags import (
    JsonFile,
    OptionalCount,
    OptionalFile,
    OptionalFolder,
    OptionalName,
    ShardFlag,
)
from iccld.commands.output import human_text, write_result
from iccld.errors import InputError
from iccld.files import write_text
from iccld.labels import LabelSpace, get_label_space
from iccld.mirrors import local_copy
from iccld.outputs import Places, require_on_disk
from iccld.shards import WHOLE, parse_shard

if TYPE_CHECKING:
    from iccld.data.autodetect.detect import Recognized
    from iccld.data.autodetect.guess import Guess
    from iccld.data.check_report import CheckReport

OptionalRole = Annotated[
    Literal["source", "target"] | None, arg(metavar="source|target", help_behavior_hint="")
]
OptionalUnlabeled = Annotated[
    Literal["ignore", "background"] | None, arg(metavar="ignore|background", help_behavior_hint="")
]
_HUB = "hf:"
_HUB_FILES = ("*.parquet", "id2label.json", "*/id2label.json")
ClassNames = Annotated[tuple[str, ...], arg(metavar="NAME...", help_behavior_hint="")]


@dataclass(frozen=True)
class DataInitArgs:
    """Detects the layout and the labels of a data set in a folder, and describes both in FOLDER/dataset.toml.

    Example: iccld data init datasets/mine

    Example: iccld data init datasets/masks --classes background road

    Example: iccld data init datasets/coco --unlabeled background

    Example: iccld data init hf:USER/NAME --out datasets/name

    The command detects Cityscapes, GTA5, SYNTHIA, CamVid, Pascal VOC, BDD100K, Mapillary Vistas, IDD and ACDC. It
    also detects your own data: a folder images/, alone or with a folder labels/ of files with the same names. Labels
    can be trainIds, labelIds, your own ids, black-and-white masks or colors. Comments in dataset.toml explain what was
    found, what was guessed and what to check. Only names, headers and a few label maps are read.

    Annotations of COCO, YOLO, labelme, CVAT, Label Studio and Supervisely are drawn once as label maps, into
    FOLDER/iccld_labels, and so are masks of single classes. The images and label maps in Parquet files (Hugging Face
    datasets) are extracted into FOLDER/iccld_frames.
    """

    folder: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """Folder of the data set. hf:USER/NAME[@REVISION] downloads the Parquet files of a data set on the Hugging Face
    hub into the folder of --out."""
    role: OptionalRole = None
    """Role of the data set: source (labels for training are required) or target (no labels are required)."""
    classes: ClassNames = ()
    """Names of the classes in the order of their ids, if the files of the data set do not contain names."""
    unlabeled: OptionalUnlabeled = None
    """Pixels without an annotation: ignore (255, the default) or background (a class of this name)."""
    out: OptionalFolder = None
    """Another folder for dataset.toml and drawn label maps, for example if FOLDER is read-only."""
    force: bool = False
    """Replace an existing dataset.toml."""
    dry_run: bool = False
    """Print the file instead of writing it."""
    json: JsonFile = None
    """JSON file for the detected layout, splits, classes and notes."""

    def run(self) -> int:
        """Detects the data set, writes or prints the file, and returns the exit code."""
        from iccld.data.autodetect.guess import sections, to_toml

        require_on_disk("FOLDER", self.folder)
        path = (self.out or self.folder) / "dataset.toml"
        Places(files={"--json": (self.json, "json")}, data=[self.folder]).check()
        if path.exists() and not self.force and not self.dry_run:
            ways = "--force replaces it, --dry-run shows what would be written"
            raise InputError(f"{path}: is there already; {ways}")
        if str(self.folder).startswith(_HUB):
            return self._downloaded().run()
        guess, drawn = self._guess()
        if self.role == "source":
            self._require_labels(guess)
        text = to_toml(guess, role=self.role, outside=self.out is not None and drawn is None)
        with human_text(self.json):
            if self.dry_run:
                print(text, end="")
            else:
                write_text(path, text)
                self._report(guess, path)
        classes = guess.meaning.keys["classes"] if guess.meaning is not None else ()
        facts = {
            "file": None if self.dry_run else str(path),
            "layout": guess.layout,
            "builtin": guess.builtin,
            "label_maps": None if guess.meaning is None else guess.meaning.text,
            "classes": list(get_label_space(classes).names if isinstance(classes, str) else classes),
            "splits": {name: asdict(entry) for name, entry in guess.splits.items()},
            "notes": sections(guess)["Please check"],
        } | ({} if drawn is None else {"annotations": drawn})
        write_result(self.json, facts)
        return 0

    def _guess(self) -> tuple[Guess, dict[str, Any] | None]:
        """Returns the detected data set, and facts about drawn annotations or ``None`` if there are label maps."""
        from iccld.data.autodetect.detect import guess_folder
        from iccld.data.autodetect.guess import survey
        from iccld.data.foreign.convert import convert
        from iccld.data.foreign.find import find_format
        from iccld.data.foreign.tables import FOLDER as FRAMES
        from iccld.data.foreign.tables import find_tables

        images = survey(self.folder).images if self.folder.is_dir() else ("none",)
        if all(name.startswith(f"{FRAMES}/") for name in images) and (tables := find_tables(self.folder)):
            return self._extracted(tables), None
        found = find_format(self.folder) if self.folder.is_dir() else None
        guess = None
        try:
            guess = guess_folder(self.folder, names=self.classes)
        except InputError:
            if found is None or self.classes:
                raise
        if found is not None and (guess is None or found.is_preferred(guess)):
            out, unlabeled = self.out or self.folder, self.unlabeled or "ignore"
            done = convert(found.read(), self.folder, out, unlabeled=unlabeled, draw=not self.dry_run)
            return done.guess, done.facts
        assert guess is not None
        if found is not None:
            note = f"The annotations in {found.title} were not read, because there are label maps."
            guess = replace(guess, notes=(*guess.notes, note))
        if self.unlabeled is not None:
            raise InputError("--unlabeled: there are no annotations to draw, which it is for; leave it out")
        return guess, None

    def _downloaded(self) -> DataInitArgs:
        """Downloads the Parquet files of a data set on the hub, and returns the arguments for their folder."""
        from iccld.data.foreign.tables import find_tables
        from iccld.models.hub import fetch, split_id

        name = str(self.folder).removeprefix(_HUB)
        parts = split_id(name)
        if parts is None:
            raise InputError(f"{self.folder}: is not the name of a data set; give hf:USER/NAME[@REVISION]")
        if self.out is None or self.dry_run:
            raise InputError(f"{self.folder}: is downloaded; give its folder with --out, without --dry-run")
        fetch(*parts, _HUB_FILES, dataset_into=self.out)
        if not find_tables(self.out):
            remedy = f"try {_HUB}{parts[0]}@refs/convert/parquet, or download its files"
            raise InputError(f"{self.folder}: has no Parquet files; {remedy}")
        return replace(self, folder=self.out, out=None)

    def _extracted(self, tables: list[Path]) -> Guess:
        """Extracts the images of Parquet files and returns the data set that they form."""
        from iccld.data.autodetect.detect import guess_folder
        from iccld.data.foreign.tables import extract, read_names

        if self.out is not None or self.dry_run:
            raise InputError(
                f"{tables[0]}: images are extracted into {self.folder}; leave out --out and --dry-run"
            )
        names = self.classes or read_names(self.folder)
        extract(tables, self.folder)
        return guess_folder(self.folder, names=names)

    def _require_labels(self, guess: Guess) -> None:
        bare = [name for name, entry in guess.splits.items() if not entry.labels]
        if len(bare) == len(guess.splits):
            why = f": {' '.join(guess.notes) or 'no label maps were found'}"
        elif "train" in bare:
            why = ", but its split train has none"
        else:
            return
        raise InputError(f"{self.folder}: a source needs labels to learn from{why}")

    def _report(self, guess: Guess, path: Path) -> None:
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
        outside = "" if self.out is None else " --follow-outside"
        print(f"next: iccld data check folder {shlex.quote(str(path.parent))}{split}{outside}")


@dataclass(frozen=True)
class DataCheckArgs:
    """Checks a data set's files, sizes and labels, and prints the frequency of each class.

    Example: iccld data check datasets/mine --sheet mine.png

    Example: iccld data check camvid datasets/camvid --split val

    If only a folder is given, its layout and labels are detected as by 'iccld data init'. The result is printed.

    The exit code is 2 if there are errors that would spoil a run. Such errors are label maps that are missing or
    unreadable, differ in size from their image, contain ids without a class, or have only ignored pixels.
    """

    name: Annotated[Positional[str], arg(metavar="[NAME]")]
    """Data set: gta5, synthia, cityscapes, camvid or folder. If NAME is missing, the data set in FOLDER is detected."""
    root: Annotated[Positional[Path | None], arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Folder of the data set."""
    split: OptionalName = None
    """Split of the data set. The default is train, or the first split if there is no split train."""
    label_space: OptionalName = None
    """Classes to count: cityscapes19, synthia16 or camvid11. The default is the data set's own classes."""
    limit: OptionalCount = None
    """Maximum number of label maps to read, evenly spaced over the split. By default, all label maps are read."""
    images_only: bool = False
    """Check only the images, for a target without labels."""
    shard: ShardFlag = None
    """Check only part I of N parts of the images. A hash of an image's name decides its part."""
    json: JsonFile = None
    """JSON file for the report, with the names of all affected files."""
    sheet: OptionalFile = None
    """PNG file that shows some images with overlaid labels. If possible, the images are chosen so that every class
    occurs. Look at this file before training."""

    def run(self) -> int:
        """Prints the report and returns the exit code, which is 2 if there are errors."""
        if self.sheet is not None and self.sheet.suffix.lower() != ".png":
            raise InputError(f"--sheet {self.sheet}: the sheet is a PNG file; give a name that ends in .png")
        root = Path(self.name) if self.root is None else self.root
        Places(files={"--json": (self.json, "json"), "--sheet": (self.sheet, "png")}, data=[root]).check()
        space = None if self.label_space is None else get_label_space(self.label_space)
        root = local_copy(root)
        known = self._recognize(root)
        report = self._check(root, known, space)
        with human_text(self.json):
            if known.text:
                print(f"{root}: taken for {known.text}")
            print(report.to_text())
            if self.sheet is not None:
                _draw_sheet(report, space, self.sheet)
            elif report.shown and not report.errors:
                print("see the labels over the images: the same command with --sheet FILE.png")
        write_result(self.json, report.to_json() | ({"taken_for": known.text} if known.text else {}))
        return 2 if report.errors else 0

    def _recognize(self, root: Path) -> Recognized:
        from iccld.data.autodetect.detect import Recognized, recognize
        from iccld.data.layouts import DATASET_NAMES

        if self.root is not None:
            return Recognized(self.name, "")
        if self.name in DATASET_NAMES and not root.is_dir():
            raise InputError(f"{self.name}: needs its folder too; call 'iccld data check {self.name} FOLDER'")
        return recognize(root)

    def _check(self, root: Path, known: Recognized, space: LabelSpace | None) -> CheckReport:
        from iccld.data.check import check_dataset
        from iccld.data.datasets import list_splits
        from iccld.data.layouts import match_split

        guessed = known.description
        splits = list_splits(known.name, root) if guessed is None else tuple(guessed.globs)
        if not splits:
            raise InputError(f"{root}: has no split of {known.name}; name the data set's own folder")
        split = self.split or match_split("train", splits) or splits[0]
        options: dict[str, Any] = {"label_space": space, "limit": self.limit, "images_only": self.images_only}
        options["shard"] = WHOLE if self.shard is None else parse_shard(self.shard)
        report = check_dataset(known.name, root, split=split, description=guessed, **options)
        if guessed is not None:
            how = f"'iccld data init {root}' writes it down, for you to correct and for training"
            report.warnings.append(f"nothing in the folder says what it holds, this was guessed; {how}")
            report.warnings += [f"please check: {note}" for note in known.notes]
        return report


def _draw_sheet(report: CheckReport, space: LabelSpace | None, sheet: Path) -> None:
    from iccld.data.datasets import native_space
    from iccld.reporting.figures import label_sheet

    what = "labels over images" if report.shown else "images without labels"
    title = f"{report.name}, split {report.split}: {what}"
    space = space or native_space(report.layout)
    path, count = label_sheet(report.layout, space, report.shown, sheet, title=title)
    print(f"sheet: {path} ({count} of {report.num_images} images)")
