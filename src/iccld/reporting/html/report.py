"""The report of one run or of several: all sections on one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from iccld.files import write_text
from iccld.reporting.html.calibration_section import reliability
from iccld.reporting.html.classes import class_bars
from iccld.reporting.html.confusion import confusion_table
from iccld.reporting.html.curves_section import adversary, training_curves
from iccld.reporting.html.gallery import gallery, same_images, trimmed
from iccld.reporting.html.headline import comparison, headline
from iccld.reporting.html.markup import Child, Html, el, join, pairs, section
from iccld.reporting.html.page import contents, render_page
from iccld.reporting.html.subject import Subject, commit_words

_ENVIRONMENT = {
    "command": "command",
    "date": "begun",
    "iccld": "iccld",
    "python": "Python",
    "torch": "torch",
    "system": "system",
    "cpu": "processor",
    "cores": "cores",
    "threads": "threads",
    "ranks": "ranks",
    "device": "device",
    "gpu": "GPU",
    "precision": "precision",
}


def write_report(path: Path, subjects: Sequence[Subject], *, title: str | None = None) -> Path:
    """Writes the page atomically.

    Args:
        path: the HTML file.
        subjects: one, or several to compare; gains are over the first.
        title: of the page; made from the names if not given.

    Raises:
        InputError: the file cannot be written.
    """
    return write_text(path, report_page(subjects, title=title))


def report_page(subjects: Sequence[Subject], *, title: str | None = None) -> str:
    """Makes the page; see ``write_report``."""
    assert subjects
    records = trimmed([s.record for s in subjects])
    subjects = [replace(s, record=record) for s, record in zip(subjects, records, strict=True)]
    title = title or f"ICCLD report: {', '.join(s.name for s in subjects)}"
    return _single(subjects[0], title) if len(subjects) == 1 else _several(subjects, title)


def _single(subject: Subject, title: str) -> str:
    parts = [
        ("curves", "Training", training_curves([subject])),
        ("classes", "Classes", class_bars([subject])),
        *_details(subject, 0),
    ]
    shown = [(key, name, content) for key, name, content in parts if content]
    links = contents([(key, name) for key, name, _ in shown])
    return render_page(
        title, links, headline(subject), *(section(name, content, id_=key) for key, name, content in shown)
    )


def _several(subjects: Sequence[Subject], title: str) -> str:
    same, rest = same_images(subjects)
    parts = [
        ("runs", "Runs", comparison(subjects)),
        ("curves", "Training", training_curves(subjects)),
        ("classes", "Classes", class_bars(subjects)),
        ("same", "The same images", same),
    ]
    subjects = [replace(s, record=record) for s, record in zip(subjects, rest, strict=True)]
    shown = [(key, name, content) for key, name, content in parts if content]
    sections = [section(name, content, id_=key) for key, name, content in shown]
    links = [(key, name) for key, name, _ in shown]
    for index, subject in enumerate(subjects):
        details = [
            section(name, content, level=3) for _, name, content in _details(subject, index) if content
        ]
        sections.append(section(subject.name, headline(subject), *details, id_=f"run{index}"))
        links.append((f"run{index}", subject.name))
    return render_page(title, contents(links), *sections)


def _details(subject: Subject, paint: int) -> list[tuple[str, str, Html]]:
    """The sections that belong to one run: (id, title, content), empty where it has nothing to show."""
    record, nothing = subject.record, Html("")
    return [
        ("images", "Images", gallery(record)),
        ("confusion", "Confusion", confusion_table(record.scores) if record.scores else nothing),
        (
            "calibration",
            "Calibration",
            reliability(record.calibration, paint) if record.calibration else nothing,
        ),
        ("adversary", "Adversary", adversary(subject.table)),
        ("environment", "Environment", _environment(subject)),
    ]


def _environment(subject: Subject) -> Html:
    found = subject.record.environment
    if not found:
        return el("p", "Not recorded: the run was made by a version that wrote no report.", class_="note")
    facts: list[tuple[str, Child]] = [
        (name, el("code", str(found[key])) if key == "command" else str(found[key]))
        for key, name in _ENVIRONMENT.items()
        if found.get(key) is not None
    ]
    return pairs([*facts, *(("resumed", _resumed(entry)) for entry in found.get("resumed", []))])


def _resumed(entry: Mapping[str, Any]) -> Html:
    commit = commit_words(entry)
    return join(f"{entry['date']}{f', commit {commit}' if commit else ''}: ", el("code", entry["command"]))
