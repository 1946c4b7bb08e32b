"""Every file that is read may be damaged or made by somebody else: one line names it, whatever it holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from iccld.bench.plan import read_plan
from iccld.bench.results import read_results
from iccld.commands.run_report import read_run
from iccld.commands.train_checks import is_finished
from iccld.config import TrainConfig, to_dict
from iccld.data.autodetect.meaning import mapillary
from iccld.data.description import read_description
from iccld.errors import InputError
from iccld.files import write_json
from iccld.inference.ranking import read_written
from iccld.models.storage import read_config
from iccld.reporting.record import read_record
from iccld.training.tracking import _read_ids, read_metrics

READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a model": ("config.json", read_config),
    "a run to resume": ("run.json", lambda folder: is_finished(TrainConfig(), folder)),
    "a run to report": ("run.json", read_run),
    "a report": ("report.json", read_record),
    "metrics": ("metrics.csv", lambda folder: read_metrics(folder / "metrics.csv")),
    "frames": ("frames.json", lambda folder: read_written(folder / "frames")),
    "results": ("result.json", read_results),
    "Mapillary's classes": ("config.json", lambda folder: mapillary(folder, "v2.0")),
    "a plan": ("plan.toml", lambda folder: read_plan(folder / "plan.toml")),
    "a data set": ("dataset.toml", lambda folder: read_description(folder / "dataset.toml")),
}
CONTENTS = {
    "brackets": b"[" * 100_000,
    "tables": b'{"a":' * 100_000,
    "digits": b"1" * 5_000,
    "a long table": b"a = " + b"[" * 100_000,
    "a list": b"[1]",
    "null": b"null",
    "not finite": b'{"steps": NaN, "data": Infinity}',
    "surrogates": b'{"\\ud800": "\\udfff"}',
    "twins": b'{"a": 1, "a": 1}',
    "no UTF-8": b"\xff\xfe\x00",
    "control characters": b"\x1b[2J\x00\r\n",
    "many cells": b"step,a\n1,2,3\n",
    "a step of many digits": b"step,a\n" + b"9" * 5000 + b",1\n",
    "a step that is none": b"step,a\n1.5,1\n",
    "a figure that is none": b"step,a\n1,\x1b[31m\n",
    "a long cell": b"step,a\n1," + b"1" * 200_000 + b"\n",
}  # fmt: skip


def _refuse(read: Callable[[Path], object], folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(folder)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 500 + len(str(folder))
    return message


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("reader", READERS)
def test_whatever_a_file_holds_is_refused_in_one_line(reader: str, content: str, tmp_path: Path) -> None:
    name, read = READERS[reader]
    (tmp_path / name).write_bytes(CONTENTS[content])
    assert name in _refuse(read, tmp_path)


@pytest.mark.parametrize("reader", READERS)
def test_devices_and_huge_files_are_not_read(reader: str, tmp_path: Path) -> None:
    name, read = READERS[reader]
    with open(tmp_path / name, "wb") as handle:
        handle.truncate(10**10)
    assert "larger than" in _refuse(read, tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    _refuse(read, tmp_path)


@pytest.mark.parametrize("text", [b"[" * 10**5, b'{"wandb": {"id": true}}', b'{"csv": 3}', b"", b"[]"])
def test_without_knowledge_of_trackers_they_get_everything(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "trackers.json").write_bytes(text)
    assert _read_ids(tmp_path / "trackers.json") == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": "7"}, "steps = '7' must be a whole number"),
        ({"steps": 7.0}, "steps = 7.0"),
        ({"seed": True}, "seed = True"),
        ({"method": "x"}, "method = 'x' must be one of"),
        ({"data": {"crop": [1]}}, "crop = [1] must be a list of 2"),
        ({"data": {"scale": [1.0, "2"]}}, "scale[1] = '2' must be a number"),
        ({"trackers": "csv"}, "trackers = 'csv' must be a list"),
        ({"model": None}, "model: None must be a table"),
    ],
)
def test_settings_of_a_run_have_types(change: dict[str, object], said: str, tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", to_dict(TrainConfig()) | {"preset": "demo"} | change)
    assert said in _refuse(READERS["a run to resume"][1], tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"examples": [{"name": "a", "role": "best", "miou": None, "panels": {"image": "https://evil.example/x.png"}}]},
     {"legend": [["road", [0, 0, 256]]]}, {"scores": {"miou": 1}}, {"step": 1.5}, {"environment": []},
     {"calibration": {"figures": {}, "pixels": ["1"], "confidence": [], "accuracy": []}}],
)  # fmt: skip
def test_records_of_reports_have_types_and_no_addresses(change: dict[str, object], tmp_path: Path) -> None:
    from iccld.reporting.record import Record

    Record().write(tmp_path)
    stored = json.loads((tmp_path / "report.json").read_text())
    assert read_record(tmp_path) == Record()
    write_json(tmp_path / "report.json", stored | change)
    assert "is no record of a report" in _refuse(read_record, tmp_path)


@pytest.mark.parametrize(
    "line",
    ['ids = { "' + "1" * 5000 + '" = "a" }', 'ids = { "٣" = "a" }', "ids = { 99999 = 'a' }", "colors = [[0, 0, 256]]",
     "colors = [[0, 0, true]]", "ignore = [1.0]", "classes = ['a\\u001b[31m']".replace("'", '"'), "name = 3",
     'images = "' + "*" * 5000 + '"', 'role = "\\u202esource"', "resize_labels = 1",
     f"classes = {[str(i) for i in range(300)]}"],
)  # fmt: skip
def test_descriptions_have_types_and_ranges(line: str, tmp_path: Path) -> None:
    key = line.split(" ")[0]
    lines = {
        "images": 'images = "*.png"',
        "labels": 'labels = "*_l.png"',
        "classes": 'classes = ["a"]',
        key: line,
    }
    (tmp_path / "dataset.toml").write_text("\n".join(lines.values()), encoding="utf-8")
    _refuse(READERS["a data set"][1], tmp_path)
