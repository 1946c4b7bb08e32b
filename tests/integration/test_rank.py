"""``iccld rank`` from the command line, with a small untrained model on disk."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from iccld.cli import main
from iccld.data.image_files import read_image
from iccld.models.iccld import ICCLD


def picture(seed: int) -> np.ndarray:
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((16, 16, 1), np.uint8))


@pytest.fixture(scope="module")
def pool(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten near-duplicates of the picture that the model is least sure of, and three surer, distinct ones."""
    root = tmp_path_factory.mktemp("pool")
    network = ICCLD.from_pretrained(model)
    pictures = [picture(seed) for seed in range(4)]
    pictures.sort(key=lambda p: float(network.predict(p).uncertainty.mean()))
    rng = np.random.default_rng(0)
    for index in range(10):
        noisy = np.clip(pictures[-1].astype(int) + rng.integers(-1, 2, pictures[-1].shape), 0, 255)
        assert cv2.imwrite(str(root / f"copy{index}.png"), noisy.astype(np.uint8)[..., ::-1])
    for index in range(3):
        assert cv2.imwrite(str(root / f"other{index}.png"), pictures[index][..., ::-1])
    return root


def run(*words: object) -> int:
    return main([str(word) for word in words])


def table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "rank.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_one_of_ten_near_duplicates_is_among_the_first(
    model: str, pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run("rank", model, pool, "--out", tmp_path, "--top", 4) == 0
    rows = table(tmp_path)
    assert sorted(Path(row["file"]).name for row in rows) == sorted(p.name for p in pool.iterdir())
    assert [row["rank"] for row in rows] == [str(i) for i in range(1, 14)]
    first = [Path(row["file"]).name[:4] for row in rows[:4]]
    assert first == ["copy", "othe", "othe", "othe"]
    network = ICCLD.from_pretrained(model)
    for row in rows[:5]:
        expected = network.predict(read_image(row["file"])).relative_uncertainty.mean()
        assert float(row["score"]) == pytest.approx(expected, abs=2e-6)
    sheet = read_image(tmp_path / "contact_sheet.png")
    assert sheet.shape[1] == 2 * 10 + 2 * 640 + 8
    assert capsys.readouterr().out.splitlines() == [
        f"13 frames ranked: {tmp_path / 'rank.csv'}",
        f"the first 4: {tmp_path / 'contact_sheet.png'}",
    ]


def test_the_order_is_the_same_every_time_and_uncertainty_alone_without_diversity(
    model: str, pool: Path, tmp_path: Path
):
    for name in ("a", "b"):
        assert run("rank", model, pool, "--out", tmp_path / name, "--diversity", 0, "--top", 2) == 0
    assert table(tmp_path / "a") == table(tmp_path / "b")
    scores = [float(row["score"]) for row in table(tmp_path / "a")]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) > 5


def test_frames_of_a_video_become_files_to_label(
    model: str, pool: Path, tmp_path: Path, make_clip: Callable[..., Path]
):
    clip = make_clip(tmp_path / "clip.mp4", [picture(seed // 10) for seed in range(40)])
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "copy0.png").write_bytes((pool / "copy0.png").read_bytes())  # two may have one name
    words = (clip, pool / "copy0.png", tmp_path / "more" / "copy0.png")
    older = tmp_path / "out" / "frames"
    (older / "night").mkdir(parents=True)
    for name in ("clip_000010.png", "clip_000011.png", "night/gone_000000.png", "mine_000012.png"):
        (older / name).write_bytes(b"an earlier run's")
    names = ["clip_000010.png", "clip_000011.png", "night/gone_000000.png"]
    (tmp_path / "out" / "frames.json").write_text(json.dumps(names), encoding="utf-8")
    assert run("rank", model, *words, "--out", tmp_path / "out", "--every", 0.4, "--top", 6) == 0
    rows = table(tmp_path / "out")
    assert sorted(row["frame"] for row in rows if row["file"] == str(clip)) == ["0", "10", "20", "30"]
    assert len(rows) == 6
    assert float(rows[-1]["distance"]) == 0  # the copy of the copy
    written = sorted(p.name for p in older.rglob("*.png"))
    frames = [f"clip_{number:06d}.png" for number in (0, 10, 20, 30)]
    assert written == [*frames, "mine_000012.png"]
    assert json.loads((tmp_path / "out" / "frames.json").read_text(encoding="utf-8")) == frames
    frame = read_image(tmp_path / "out" / "frames" / "clip_000020.png")
    assert np.abs(frame.astype(int) - picture(2)).mean() < 25


def test_scores_from_draws_and_margin(model: str, pool: Path, tmp_path: Path):
    image, network = pool / "other0.png", ICCLD.from_pretrained(model)
    settings = ("--draws", 3, "--seed", 2, "--top", 1)
    expected = network.predict(read_image(image), draws=3, seed=2)
    for score, value in (
        ("mutual_information", expected.relative_mutual_information.mean()),
        ("margin", 1 - np.diff(np.sort(expected.probabilities, axis=0)[-2:], axis=0).mean()),
    ):
        assert run("rank", model, image, "--out", tmp_path / score, "--score", score, *settings) == 0
        assert float(table(tmp_path / score)[0]["score"]) == pytest.approx(value, abs=2e-6)


def test_a_list_of_frames_that_is_none_stops_the_run(
    model: str, tmp_path: Path, make_clip: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    clip, record = make_clip(tmp_path / "clip.mp4", [picture(0)] * 2), tmp_path / "out" / "frames.json"
    record.parent.mkdir()
    for text in (
        "{",
        "3",
        '{"images": []}',
        '["../clip_000001.png"]',
        '["/clip_000001.png"]',
        '["mine.png"]',
    ):
        record.write_text(text, encoding="utf-8")
        assert run("rank", model, clip, "--out", tmp_path / "out") == 2
        assert f"error: {record}: " in capsys.readouterr().err
        assert record.read_text(encoding="utf-8") == text
        assert [path.name for path in record.parent.iterdir()] == ["frames.json"]


def test_bad_files_are_named_and_bad_settings_refused(
    model: str, pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "bad.png").write_bytes(b"x")
    (tmp_path / "bad.mp4").write_bytes(b"x")
    bad = (tmp_path / "bad.png", tmp_path / "bad.mp4")
    assert run("rank", model, *bad, pool / "other0.png", "--out", tmp_path / "out", "--top", 1) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "iccld: 2 files could not be read to their end:"
    assert lines[1].startswith(f"  {bad[0]}: ")
    assert lines[2].startswith(f"  {bad[1]}: cannot be opened as a video")
    for words, message in (
        ((bad[0],), "no frame can be ranked"),
        ((pool, "--top", 0), "--top = 0 must be"),
        ((pool, "--diversity", -1), "--diversity = -1.0 must be"),
        ((pool, "--every", 0), "--every = 0.0 must be"),
        ((pool, "--every", 1e-7), "--every = 1e-07 must be"),
        ((pool, "--score", "mutual_information"), "give --draws 2 or more"),
        (("camera:0",), "camera:0: only files can be ranked"),
    ):
        assert run("rank", model, *words, "--out", tmp_path / "none") == 2
        error = capsys.readouterr().err
        assert error.startswith("iccld: error: ")
        assert error.count("\n") == 1
        assert message in error
    assert not (tmp_path / "none").exists()


def test_shards_give_the_ranking_of_one_process(model: str, pool: Path, tmp_path: Path):
    (pool / "broken.png").write_bytes(b"no picture")
    try:
        words = ("rank", model, pool, "--top", 4)
        assert run(*words, "--out", tmp_path / "one") == 1
        out = tmp_path / "parts"
        codes = [run(*words, "--out", out, "--shard", f"{index}/3") for index in (2, 0, 1)]
        assert sorted(codes) == [0, 0, 1]
        assert not (out / "rank.csv").exists()
        assert run(*words, "--out", out, "--merge", "--json", tmp_path / "merged.json") == 1
    finally:
        (pool / "broken.png").unlink()
    for name in ("rank.csv", "contact_sheet.png"):
        assert (tmp_path / "one" / name).read_bytes() == (out / name).read_bytes()
    assert len(json.loads((tmp_path / "merged.json").read_text())["failures"]) == 1


def test_faults_of_parts_are_one_line(
    model: str, pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ("rank", model, pool, "--out", tmp_path)

    def error(*flags: str) -> str:
        assert run(*words, *flags) == 2
        err = capsys.readouterr().err
        assert err.count("iccld: error: ") == 1
        return err

    assert "has no parts" in error("--merge")
    assert "give one of them" in error("--merge", "--shard", "0/2")
    assert run(*words, "--shard", "0/2") == 0
    assert "part 1/2 is missing" in error("--merge")
    assert run(*words, "--shard", "1/2") == 0
    assert "another model or other settings" in error("--merge", "--steps", "2")
    part = tmp_path / "parts" / "1-of-2.safetensors"
    whole = part.read_bytes()
    part.write_bytes(whole[:-8])
    assert "is damaged" in error("--merge")
    part.write_bytes(whole)
    first = sorted(pool.iterdir())[0]
    assert run("rank", model, first, "--out", tmp_path, "--merge") == 2
    assert "which is not among the inputs" in capsys.readouterr().err
    assert run(*words, "--shard", "0/3") == 0
    assert "is a part of another number of parts" in error("--merge")


def test_images_without_a_score_are_named(
    model: str, pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ("rank", model, pool, "--out", tmp_path)
    assert run(*words, "--shard", "0/1") == 0
    (pool / "new.png").write_bytes((pool / "other0.png").read_bytes())
    try:
        assert run(*words, "--merge") == 2
        assert "new.png: is in no part" in capsys.readouterr().err
    finally:
        (pool / "new.png").unlink()
    (tmp_path / "parts" / "a-of-b.safetensors").write_bytes(b"")
    assert run(*words, "--merge") == 0
