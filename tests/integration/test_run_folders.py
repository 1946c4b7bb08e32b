"""Whose a run's folder is, who is at work in it, and which data belong to it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from iccld.cli import main
from iccld.labels import CITYSCAPES19
from iccld.locks import LOCK
from iccld.models.iccld import ICCLD

Flags = Callable[..., list[str]]
_ONE = ("--method", "source_only", "--stop-at", "1")
_TWO = ("--method", "source_only", "--stop-at", "2")


@pytest.fixture
def own(tiny_data: Path, flags: Flags, tmp_path: Path) -> Callable[..., list[str]]:
    """The words of a run on a copy of the data in ``tmp_path/data``."""
    shutil.copytree(tiny_data, tmp_path / "data")

    def make(*more: str, data: Path | None = None) -> list[str]:
        data = data or tmp_path / "data"
        roots = ("--data.source-root", str(data / "source"), "--data.target-root", str(data / "target"))
        return flags(tmp_path / "run", *roots, *more)

    return make


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(words) == 2
    errors = capsys.readouterr().err
    assert errors.count("iccld: error: ") == 1
    return errors.splitlines()[-1]


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["model.safetensors", "README.md", "images/a.png"])
def test_a_folder_of_others_stays_as_it_is(
    name: str, flags: Flags, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "theirs" / name
    path.parent.mkdir(parents=True)
    path.write_text("theirs")
    before = content(tmp_path)
    line = refused(flags(tmp_path / "theirs"), capsys)
    assert f"theirs: is not empty ({name.split('/')[0]}) and holds no run" in line
    for words in (
        ["demo", "--out", str(tmp_path / "theirs" / "source_only" / ".."), "--steps", "1"],
        ["data", "scenes", str(tmp_path / "theirs"), "--count", "1"],
    ):
        (tmp_path / "theirs" / "table.md").write_text("theirs")
        assert "theirs" in refused(words, capsys)
        (tmp_path / "theirs" / "table.md").unlink()
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--out DATA/source/run", "--out DATA/source/run: lies in the data folder DATA/source"),
        ("--out DATA", "--out DATA: holds the input DATA/source"),
        (
            "--data.cache DATA/target/cache",
            "--data.cache DATA/target/cache: lies in the data folder DATA/target",
        ),
        ("--json DATA/source/a.json", "--json DATA/source/a.json: lies in the data folder DATA/source"),
    ],
)
def test_nothing_is_written_among_the_data(
    words: str,
    message: str,
    own: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, before = str(tmp_path / "data"), content(tmp_path)
    assert message.replace("DATA", data) in refused(own(*words.replace("DATA", data).split()), capsys)
    assert content(tmp_path) == before


def test_a_second_process_in_a_run(
    own: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hold = "import sys\nfrom iccld.locks import working_in\nwith working_in(sys.argv[1]):\n print(); sys.stdin.read()"
    words = [sys.executable, "-c", hold, str(tmp_path / "run")]
    other = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    other.stdout.readline()
    assert f"process {other.pid} on " in refused(own(*_ONE), capsys)
    other.kill()
    other.communicate()
    assert (tmp_path / "run" / LOCK).exists()
    assert main(own(*_ONE)) == 0
    assert not (tmp_path / "run" / LOCK).exists()


def swap_classes(data: Path) -> None:
    path = data / "source" / "dataset.toml"
    text = path.read_text()
    path.write_text(text.replace('"c0", "c1"', '"c1", "c0"'))


def change_names(data: Path) -> None:
    path = data / "source" / "dataset.toml"
    path.write_text(path.read_text().replace('"c13"', '"thirteen"'))


def remove_image(data: Path) -> None:
    (data / "target" / "val" / "images" / "1.png").unlink()
    (data / "target" / "val" / "labels" / "1.png").unlink()


def rename_image(data: Path) -> None:
    for part in ("images", "labels"):
        (data / "source" / "train" / part / "3.png").rename(data / "source" / "train" / part / "4.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            swap_classes,
            "of the labeled images (DATA/source) classes were c0, c1, c2, c3, … (14), now c1, c0, c2",
        ),
        (change_names, "of the labeled images (DATA/source) classes were c0, c1,"),
        (remove_image, "of the validation images (DATA/target) there were 2 images, now 1"),
        (rename_image, "of the labeled images (DATA/source) the names or sizes of its files"),
    ],
)
def test_changed_data_are_another_run(
    change: Callable[[Path], None],
    message: str,
    own: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = tmp_path / "data"
    for domain in ("source", "target"):
        (data / domain / "dataset.toml").write_text(
            f"classes = {json.dumps([f'c{i}' for i in range(14)])}\n"
            + "".join(
                f'[splits.{s}]\nimages = "{s}/images/*.png"\nlabels = "{s}/labels/*.png"\n'
                for s in ("train", "val")
            )
        )
    words = own(*_TWO, "--data.label-space", "source")
    assert main([*words, "--stop-at", "1"]) == 0
    before = content(tmp_path / "run")
    change(data)
    line = refused(words, capsys)
    assert "was begun with other data: " + message.replace("DATA", str(data)) in line
    assert content(tmp_path / "run") == before


def test_moved_data_are_the_same_run(
    own: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(own(*_ONE)) == 0
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "data", tmp_path / "elsewhere" / "moved")
    os.utime(tmp_path / "elsewhere" / "moved" / "source" / "train" / "images" / "1.png", (1, 1))
    monkeypatch.chdir(tmp_path / "elsewhere")
    capsys.readouterr()
    assert main(own(*_TWO, data=Path("moved"))) == 0
    out = capsys.readouterr().out
    assert "resuming from step 1" in out
    assert (
        f"the labeled images lie in {tmp_path}/elsewhere/moved/source now, before in {tmp_path}/data/source"
        in out
    )
    stored = json.loads((tmp_path / "run" / "run.json").read_text())
    assert stored["data"]["source_root"] == "moved/source"
    recorded = json.loads((tmp_path / "run" / "data.json").read_text())
    assert recorded["labeled"]["root"] == f"{tmp_path}/elsewhere/moved/source"


def test_a_target_without_labels_is_told_at_the_start(
    own: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val"):
        shutil.rmtree(tmp_path / "data" / "target" / split / "labels")
    capsys.readouterr()
    assert main(own(*_ONE)) == 0
    out, err = capsys.readouterr()
    assert "evaluation: none (" in out
    assert err.index("warning: nothing is evaluated in this run (") < err.index("stopped after step 1")


def test_a_bench_without_labels_trains_nothing(
    own: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(tmp_path / "data" / "target" / "val" / "labels")
    plan = tmp_path / "plan.toml"
    plan.write_text(
        'seeds = [0]\n[tasks.a]\npreset = "demo"\nsettings = { steps = 2, "data.target" = "folder" }\n'
        '[variants.b]\nmethod = "source_only"\n'
    )
    folders = ["--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    roots = ["--roots", f"folder={tmp_path / 'data' / 'target'}"]
    assert main(["bench", str(plan), *folders, *roots, "--jobs", "1", "--threads", "1"]) == 1
    assert "a bench measures every run, and this one cannot be measured" in capsys.readouterr().err
    assert not list((tmp_path / "work").rglob("metrics.csv"))


def test_a_run_beyond_the_memory_is_refused_and_leaves_nothing_in_the_way(
    own: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("iccld.commands.train_checks.free_memory", lambda: 0)
        patch.setattr("iccld.commands.train_checks.own_memory", lambda: 300_000_000)
        line = refused(own(*_ONE), capsys)
    assert "this run needs about " in line
    assert "of memory, and this process can have 300 MB; lower --data.batch-size" in line
    assert main(own(*_ONE, "--data.batch-size", "2")) == 0, "with another setting, in the same folder"


def test_results_go_into_no_folder_of_others(
    model: str, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tiny_data / "target" / "val" / "images"
    mine = tmp_path / "mine"
    shutil.copytree(images, mine)
    shutil.copytree(model, tmp_path / "model")
    predictions = tmp_path / "predictions"
    assert main(["predict", model, str(images), "--out", str(predictions)]) == 0
    for words in (
        ["demo", "--out", str(mine)],
        ["predict", model, str(images), "--out", str(mine)],
        ["predict", str(tmp_path / "model"), str(images), "--out", str(tmp_path / "model")],
        ["rank", model, str(images), "--out", str(predictions)],
    ):
        folder = Path(words[-1])
        before = sorted(path for path in folder.rglob("*"))
        capsys.readouterr()
        assert main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "is not empty" in line
        assert line.endswith("choose another folder")
        assert sorted(path for path in folder.rglob("*")) == before


def test_predictions_of_other_classes_do_not_mix(
    model: str, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = str(tiny_data / "target" / "val" / "images"), str(tmp_path / "out")
    ICCLD(CITYSCAPES19, width=16, latent_channels=4).save_pretrained(tmp_path / "other")
    assert main(["predict", model, images, "--out", out]) == 0
    assert main(["predict", model, images, "--out", out]) == 0
    for words in ([str(tmp_path / "other"), images], [model, images, "--ids", "index"]):
        capsys.readouterr()
        assert main(["predict", *words, "--out", out]) == 2
        assert "is of predictions with other classes or ids; choose another folder" in capsys.readouterr().err


def test_the_only_image_that_cannot_be_read_is_a_mistake(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    assert main(["predict", model, str(tmp_path / "bad.png"), "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len([line for line in printed.err.splitlines() if "error" in line]) == 1
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ["demo"],
        ["predict", "MODEL", "IMAGES"],
        ["rank", "MODEL", "IMAGES"],
        ["data", "scenes"],
        ["train", "demo"],
    ],
    ids=" ".join,
)
def test_a_file_is_no_folder_for_results(
    words: list[str], model: str, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "notes.txt"
    out.write_text("mine")
    names = {"MODEL": model, "IMAGES": str(tiny_data / "target" / "val" / "images")}
    place = [str(out)] if words[0] == "data" else ["--out", str(out)]
    line = refused([*(names.get(word, word) for word in words), *place], capsys)
    assert "is a file; give the name of a folder" in line
    assert out.read_text() == "mine"
