"""``iccld data cache`` and runs that train from what it has kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from iccld.cli import main
from iccld.training.tracking import read_metrics

Flags = Callable[..., list[str]]


def _cache_words(words: list[str], cache: Path, *more: str) -> list[str]:
    """The same run for ``data cache``: its words, but for the run's folder."""
    at = words.index("--out")
    return ["data", "cache", *words[1:at], *words[at + 2 :], "--data.cache", str(cache), *more]


def test_a_run_reads_what_the_command_has_kept(
    flags: Flags, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags(tmp_path / "plain", "--data.no-rare-class-sampling")) == 0
    words = flags(tmp_path / "kept", "--data.no-rare-class-sampling")
    cache = tmp_path / "cache"
    capsys.readouterr()
    assert main(_cache_words(words, cache, "--jobs", "2", "--json", str(tmp_path / "done.json"))) == 0
    out = capsys.readouterr().out
    assert "folder: 4 of 4 images to decode" in out
    assert f"--data.cache {cache}" in out
    done = json.loads((tmp_path / "done.json").read_text())["caches"]
    assert [d["written"] for d in done] == [4, 4]
    assert main(_cache_words(words, cache)) == 0
    assert "folder: 0 of 4 images to decode" in capsys.readouterr().out

    decoded: list[str] = []
    from iccld.data import datasets

    read = datasets.read_image
    monkeypatch.setattr(datasets, "read_image", lambda path: (decoded.append(str(path)), read(path))[1])
    assert main([*words, "--data.cache", str(cache)]) == 0
    assert decoded
    assert not [path for path in decoded if "/train/" in path]
    plain, kept = (read_metrics(tmp_path / name / "metrics.csv") for name in ("plain", "kept"))
    assert plain[-1]["train/loss"] == kept[-1]["train/loss"]
    capsys.readouterr()
    assert main([*words, "--data.cache", str(tmp_path / "elsewhere")]) == 0  # no other run for that
    assert "finished earlier" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "usage: iccld data cache PRESET"),
        (["demo"], "--data.cache is missing"),
        (["demo", "--data.cache", "x", "--jobs", "-1"], "--jobs = -1"),
        (["demo", "--data.cache", "x"], "trains on no data set of files"),
        (["dmeo", "--data.cache", "x"], "unknown preset 'dmeo'"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "cache", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "x").exists()
