"""The report about a checked data set. The report can be converted to text and to JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from iccld.data.layouts import Layout
from iccld.escaping import visible

_EXAMPLES = 5


@dataclass(frozen=True)
class ClassShare:
    """Frequency of a class in the label maps that were read.

    ``pixels`` is the number of pixels of the class. ``images`` is the number of label maps that contain the class.
    """

    name: str
    pixels: int
    images: int


@dataclass
class CheckReport:
    """The findings about one split of a data set.

    Attributes:
        label_space: Name of the label space (set of classes) in which pixels are counted.
        num_labels: Number of label files that belong to an image.
        num_read: Number of label maps that were read.
        num_judged: Number of label maps that were checked for compression and interpolation.
        sizes: Image size as "width×height" → number of images of this size.
        classes: All classes in label order.
        ignored_pixels: Number of ignored pixels (255) in the label maps that were read.
        errors: Problems that prevent training or make its result useless, one line each.
        warnings: Other findings, one line each.
        files: Kind of finding (for example ``unreadable_images``) → all affected files.
        shown: Image name → (label → number of pixels), for the label maps that were read.
    """

    name: str
    root: str
    split: str
    label_space: str
    layout: Layout
    num_images: int
    num_labels: int = 0
    num_read: int = 0
    num_judged: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    classes: list[ClassShare] = field(default_factory=list)
    ignored_pixels: int = 0
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    files: dict[str, list[str]] = field(default_factory=dict)
    shown: dict[str, dict[int, int]] = field(default_factory=dict)

    @property
    def num_pixels(self) -> int:
        """Number of pixels in the label maps that were read, including ignored pixels."""
        return self.ignored_pixels + sum(c.pixels for c in self.classes)

    def name_files(self, kind: str, files: Sequence[str]) -> str:
        """Stores the files of a finding under ``kind``, and returns the names of the first files for a message."""
        self.files[kind] = list(files)
        more = f" and {len(files) - _EXAMPLES} more" if len(files) > _EXAMPLES else ""
        return ", ".join(files[:_EXAMPLES]) + more

    def note(
        self, kind: str, files: Sequence[str], what: str, remedy: str = "", *, is_error: bool = False
    ) -> None:
        """Adds an error or a warning about ``files`` to this report. If ``files`` is empty, nothing is added."""
        if files:
            line = f"{len(files)} {what} ({self.name_files(kind, files)})" + f"; {remedy}" * bool(remedy)
            (self.errors if is_error else self.warnings).append(line)

    def note_broken(self, kind: str, what: str, faults: Mapping[str, str]) -> None:
        """Adds one error about all unreadable files. ``faults`` is path → reason. The error quotes the first reason."""
        first = f"the first: {next(iter(faults.values()), '')}"
        self.note(kind, list(faults), f"{what} cannot be read", first, is_error=True)

    def to_json(self) -> dict[str, Any]:
        """Returns the report as a dict for JSON. ``share`` is a class's fraction of all pixels, from 0 to 1."""
        total = max(1, self.num_pixels)
        other = ("layout", "num_read", "num_judged", "ignored_pixels", "shown")
        return {name: value for name, value in vars(self).items() if name not in other} | {
            "passed": not self.errors,
            "num_labels_read": self.num_read,
            "classes": [asdict(c) | {"share": c.pixels / total} for c in self.classes],
            "ignored_share": self.ignored_pixels / total,
        }

    def to_text(self) -> str:
        """Returns the report as text for the terminal."""
        sizes = Counter(self.sizes).most_common()
        shown = ", ".join(f"{size} ({count})" for size, count in sizes[:_EXAMPLES])
        if len(sizes) > _EXAMPLES:
            shown += f" and {len(sizes) - _EXAMPLES} other sizes"
        lines = [
            f"{self.name}, split {self.split}: {self.root}",
            f"  images  {self.num_images}, {shown or 'no size could be read'}",
            f"  labels  {self.num_labels}, {self.num_read} of them read",
            "",
        ]
        if self.num_read:
            total = max(1, self.num_pixels)
            title = f"class of {self.label_space}"
            width = max(len(title), *(len(c.name) for c in self.classes))
            lines.append(f"  {title:<{width}}  {'share':>8}  images")
            lines += [f"  {c.name:<{width}}  {c.pixels / total:>8.3%}  {c.images:>6}" for c in self.classes]
            lines += [f"  {'(ignored)':<{width}}  {self.ignored_pixels / total:>8.3%}", ""]
        lines += [f"warning: {text}" for text in self.warnings]
        lines += [f"error: {text}" for text in self.errors]
        count = len(self.errors)
        verdict = f"{count} error{'s' * (count != 1)}: mend them before training" if count else "no errors"
        return "\n".join(visible(line) for line in [*lines, verdict])  # escapes line breaks in file names
