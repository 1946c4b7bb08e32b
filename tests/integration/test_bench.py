"""``iccld bench`` as a program: killed, called again, with a run that cannot work among the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from iccld.bench.plan import read_plan
from iccld.bench.results import find_result, read_results
from iccld.cli import main
from iccld.models.iccld import ICCLD

# The task that cannot work comes first: its data do not exist.
PLAN = """
title = "Tiny"
seeds = [0]
predictions = [[1, 1], [1, 2]]

[tasks.gone]
preset = "demo"
settings = { "data.target" = "camvid", "data.target_root" = "data/camvid", steps = 4 }

[tasks.small]
title = "Small scenes"
preset = "demo"

[tasks.small.settings]
steps = 4
eval_every = 2
log_every = 2
checkpoint_every = 2
precision = "fp32"
device = "cpu"
"model.backbone" = "compact"
"data.target_look" = "camera"
"data.source_size" = [48, 96]
"data.target_size" = [48, 96]
"data.crop" = [32, 64]
"data.source_count" = 3
"data.target_count" = 3
"data.val_count" = 2
"data.batch_size" = 1
"data.num_workers" = 0
"model.width" = 16
"model.latent_channels" = 4

[variants.iccld]
title = "ICCLD"
method = "iccld"

[variants.minent]
method = "minent"
tasks = ["small"]
"""
PATIENCE = 120.0
"""Seconds after which something that should happen is given up on."""


def wait_until(happened: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.02)


def workers_of(folder: Path) -> list[int]:
    """Processes, workers' children among them, that work on jobs below a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue  # it has just ended
        if b"bench_worker" in words and str(folder).encode() in words:
            found.append(int(entry.name))
    return found


def command(root: Path, *more: str) -> list[str]:
    folders = ["--results", str(root / "results"), "--work", str(root / "work")]
    roots = ["--roots", f"camvid={root / 'nowhere'}"]
    return ["bench", str(root / "tiny.toml"), *folders, *roots, "--jobs", "1", "--threads", "1", *more]


def start(root: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "iccld", *command(root, *more)],
        cwd=root,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    (folder / "tiny.toml").write_text(PLAN)
    return folder


@pytest.fixture(scope="module")
def finished(root: Path) -> tuple[int, str, str]:
    """A bench that was killed while it trained, and then the same command again."""
    first = start(root, "--only", "small/*")
    records = root / "work" / "tiny" / "small"
    wait_until(lambda: any(records.glob("iccld-seed0-*/run.json")) or first.poll() is not None, "training")
    assert first.poll() is None, first.communicate()
    first.send_signal(signal.SIGKILL)
    first.communicate()
    wait_until(lambda: not workers_of(root), "the end of the workers")
    assert not list((root / "results").rglob("*.json")), "a worker went on without its bench"
    second = start(root)
    out, err = second.communicate(timeout=PATIENCE)
    assert workers_of(root) == []
    return second.returncode, out, err


def test_a_run_that_fails_is_one_line_and_stops_no_other(root: Path, finished: tuple[int, str, str]) -> None:
    code, out, err = finished
    assert code == 1
    assert out.splitlines()[0] == "tiny: 3 runs, 0 done, 3 to do"
    errors = [line for line in err.splitlines() if "error" in line]
    assert len(errors) == 1
    assert errors[0].startswith("iccld: error: gone/iccld/0: failed (")
    assert str(root / "nowhere") in errors[0]
    (log,) = (root / "work" / "tiny" / "gone").glob("iccld-seed0-*/log.txt")
    assert errors[0].endswith(f"see {log}")
    assert "Traceback" not in err + log.read_text()
    done = [line.split(":")[0] for line in out.splitlines() if ": mIoU " in line]
    assert done == ["small/iccld/0", "small/minent/0"]


def test_results_and_tables_are_left(root: Path, finished: tuple[int, str, str]) -> None:
    results = root / "results" / "tiny"
    assert sorted(p.relative_to(results).as_posix() for p in results.rglob("*") if p.is_file()) == [
        "report.html",
        "small/iccld-seed0.json",
        "small/minent-seed0.json",
        "tables.md",
    ]
    known = read_results(root / "results")
    for run in read_plan(root / "tiny.toml").runs(["small/*"]):
        result = find_result(run, known)
        assert result is not None
        facts = result.facts
        assert (facts["run"], facts["settings"]["method"]) == (run.name, run.variant.method)
        assert [c["step"] for c in facts["checkpoints"]] == [2, 4]
        assert [(p["steps"], p["draws"]) for p in facts["predictions"]] == [(1, 1), (1, 2)]
        assert facts["miou"] == facts["predictions"][0]["miou"]
        # The last evaluation of training and the worker's own are the same measurement, but for rounding.
        assert facts["miou"] == pytest.approx(facts["checkpoints"][-1]["miou"], abs=0.1)
        assert 0 <= facts["predictions"][0]["ece"] <= 1
        assert len(facts["iou"]) == 11
        assert facts["machine"]["threads"] == 1
        assert set(facts["label_free"]) == {"entropy", "agreement", "snd", "transfer"}
        assert str(root) not in json.dumps(facts), "folders of this machine"
    tables = (results / "tables.md").read_text()
    assert tables in finished[1]
    assert "### Small scenes" in tables
    assert "| ICCLD | " in tables
    assert "### gone" not in tables


def test_work_keeps_models_and_scenes_but_no_checkpoints(root: Path, finished: tuple[int, str, str]) -> None:
    work = root / "work"
    for variant in ("iccld", "minent"):
        (folder,) = (work / "tiny" / "small").glob(f"{variant}-seed0-*")
        assert ICCLD.from_pretrained(folder).label_space.name == "camvid11"
        assert not (folder / "checkpoints").exists()
    # Source, target and validation; both runs read the same.
    assert sorted(p.name.split("-seed")[0] for p in (work / "scenes").glob("*48x96*.npy")) == [
        "camera-2x48x96",
        "camera-3x48x96",
        "game-3x48x96",
    ]


def test_the_same_command_again_runs_nothing(root: Path, finished: tuple[int, str, str]) -> None:
    def times() -> dict[Path, int]:
        written = ("tables.md", "report.html")
        return {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file() and p.name not in written}

    before = times()
    again = start(root, "--only", "small/*")
    out, err = again.communicate(timeout=PATIENCE)
    assert (again.returncode, err) == (0, "")
    assert out.splitlines()[0] == "tiny: 2 runs, 2 done, 0 to do"
    assert ": mIoU " not in out
    assert times() == before


def test_tables_alone(
    root: Path, finished: tuple[int, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / "results" / "tiny" / "tables.md"
    text = path.read_text()
    path.unlink()
    assert main(command(root, "--table")) == 0
    assert path.read_text() == text
    captured = capsys.readouterr()
    report = path.with_name("report.html")
    assert captured.out == f"\n{text}\ntables: {path}\nreport: {report}\n"
    assert "Small scenes" in report.read_text()
    assert captured.err == ""


def test_tables_without_any_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.toml").write_text(PLAN)
    assert main(command(tmp_path, "--table")) == 0
    assert "No results yet." in capsys.readouterr().out
    assert (tmp_path / "results" / "tiny" / "tables.md").read_text() == "## Tiny\n\nNo results yet.\n"
    assert "No results yet." in (tmp_path / "results" / "tiny" / "report.html").read_text()
    assert not (tmp_path / "work").exists()


def test_results_that_cannot_be_read_stop_it_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.toml").write_text(PLAN)
    broken = tmp_path / "results" / "tiny" / "small" / "iccld-seed0.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    assert main(command(tmp_path)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"iccld: error: {broken}: is no result of a bench")
    assert error.count("\n") == 1
    assert not (tmp_path / "work").exists()


def test_a_dry_run_says_what_is_left_and_starts_nothing(
    root: Path, finished: tuple[int, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert finished[0] == 1
    before = sorted(path for path in root.rglob("*"))
    assert main(command(root, "--dry-run")) == 0
    assert capsys.readouterr().out.splitlines() == [
        "3 runs, 2 done, 1 to do",
        "gone/iccld/0: 4 steps, unknown time",
    ]
    text = PLAN.replace(
        'method = "minent"', 'method = "minent"\nsettings = { "adaptation.entropy_weight" = 0.5 }'
    )
    (root / "tiny.toml").write_text(text)
    assert main(command(root, "--dry-run", "--only", "small/*")) == 0
    lines = capsys.readouterr().out.splitlines()
    (root / "tiny.toml").write_text(PLAN)
    assert lines[0] == "2 runs, 1 done, 1 to do"
    assert lines[1].startswith("small/minent/0: 4 steps, about ")
    assert lines[2].endswith("hours of work, 0.0 with 1 at a time")
    assert sorted(path for path in root.rglob("*")) == before
