"""Archives of ``iccld data shards`` give the images, labels, classes and order of the original data set."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from fake_data import SIZE, random_ids, random_image, save_gray, save_rgb

from iccld.cli import main
from iccld.data.datasets import FileDataset, open_dataset
from iccld.data.identity import describe_data
from iccld.data.webdataset import write_shards
from iccld.errors import InputError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng, root = np.random.default_rng(0), tmp_path / "data"
    for split, count in (("train", 5), ("val", 2)):
        for index in range(count):
            name = f"{'ab'[index % 2]}/frame.{index}_left"
            save_rgb(root / split / "images" / f"{name}.png", random_image(rng))
            save_gray(root / split / "labels" / f"{name}.png", random_ids(rng, [3, 7, 9, 255]))
    save_rgb(root / "bare" / "only.jpg", random_image(rng))
    (root / "dataset.toml").write_text(
        'name = "mine"\nclasses = ["road", "a \\"b\\"", "sky"]\ncolors = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]\n'
        'role = "target"\n[ids]\n3 = "road"\n7 = "a \\"b\\""\n9 = "sky"\n'
        '[splits.train]\nimages = "train/images/**/*.png"\nlabels = "train/labels/**/*.png"\n'
        '[splits.val]\nimages = "val/images/**/*.png"\nlabels = "val/labels/**/*.png"\n'
        '[splits.bare]\nimages = "bare/*.jpg"\n'
    )
    return root


def _shards(data: Path, out: Path, frames: int = 2) -> int:
    return main(["data", "shards", "folder", str(data), "--out", str(out), "--frames", str(frames)])


def test_archives_equal_the_folder(data: Path, tmp_path: Path) -> None:
    assert _shards(data, tmp_path / "out") == 0
    assert len(list((tmp_path / "out" / "train").iterdir())) == 3
    for split in ("train", "val"):
        one, other = (open_dataset("folder", root, split=split) for root in (data, tmp_path / "out"))
        assert isinstance(other, FileDataset)
        assert one.label_space.classes == other.label_space.classes
        assert (one.name, len(one), other.layout.role) == (other.name, len(other), "target")
        for index in range(len(one)):
            np.testing.assert_array_equal(one.image(index), other.image(index))
            np.testing.assert_array_equal(one.label(index), other.label(index))
            assert other.label(index).shape == SIZE
    bare = open_dataset("folder", tmp_path / "out", split="bare", needs_labels=False)
    assert [bare.file_name(0)] == ["000000.tar/only.image.jpg"]


def test_an_archive_may_be_named_without_a_wildcard(data: Path, tmp_path: Path) -> None:
    assert _shards(data, tmp_path / "out") == 0
    (tmp_path / "out" / "dataset.toml").write_text(
        'classes = ["a", "b", "c"]\nimages = "train/000001.tar/a/*.image.png"\n'
        'labels = "train/000001.tar/a/*.label.png"\n'
    )
    dataset = open_dataset("folder", tmp_path / "out")
    assert [dataset.file_name(index) for index in range(len(dataset))] == [
        "000001.tar/a/frame%2E4_left.image.png"
    ]
    assert dataset.label(0).shape == SIZE


def test_a_damaged_archive_is_one_line(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _shards(data, tmp_path / "out") == 0
    path = tmp_path / "out" / "train" / "000001.tar"
    path.write_bytes(path.read_bytes()[:-2000])
    assert main(["data", "check", "folder", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert f"{path}: is no uncompressed tar archive (it is incomplete)" in err
    assert err.count("\n") == 1


def test_frames_are_groups_of_webdataset(data: Path, tmp_path: Path) -> None:
    assert _shards(data, tmp_path / "out", frames=9) == 0
    with tarfile.open(tmp_path / "out" / "train" / "000000.tar") as tar:
        names = tar.getnames()
        facts = json.load(tar.extractfile(names[2]))  # type: ignore[arg-type]
    keys = [
        name.rpartition("/")[2].partition(".") for name in names
    ]  # WebDataset: the key ends at the first dot
    assert [ending for _, _, ending in keys] == ["image.png", "label.png", "json"] * 5
    assert len({name.partition(".")[0] for name in names}) == 5
    assert facts == {"name": "a/frame.0_left.png", "height": SIZE[0], "width": SIZE[1]}


def test_complete_archives_are_kept(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert _shards(data, out) == 0
    paths = sorted(out.rglob("*.tar"))
    before = [path.read_bytes() for path in paths]
    times = [path.stat().st_mtime_ns for path in paths]
    paths[1].unlink()
    assert _shards(data, out) == 0
    assert [path.read_bytes() for path in paths] == before
    assert [path.stat().st_mtime_ns == time for path, time in zip(paths, times, strict=True)].count(
        False
    ) == 1


def test_archives_of_other_frames_are_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _shards(data, tmp_path / "out") == 0
    assert _shards(data, tmp_path / "out", frames=3) == 2
    assert "000002.tar: is not an archive of this data set" in capsys.readouterr().err
    assert _shards(data, tmp_path / "out", frames=1) == 2
    assert "000000.tar: is an archive of other frames" in capsys.readouterr().err


def test_a_changed_archive_changes_the_run(data: Path, tmp_path: Path) -> None:
    assert _shards(data, tmp_path / "out") == 0
    dataset = open_dataset("folder", tmp_path / "out", split="train")
    before = describe_data(dataset)["files"], dataset.fingerprint()  # type: ignore[attr-defined]
    with tarfile.open(tmp_path / "out" / "train" / "000000.tar") as tar:
        size = tar.getmembers()[0].size
    assert size > 0
    path = tmp_path / "out" / "train" / "000000.tar"
    path.write_bytes(path.read_bytes())  # a new time of modification
    again = open_dataset("folder", tmp_path / "out", split="train")
    assert describe_data(again)["files"] == before[0]
    assert again.fingerprint() != before[1]  # type: ignore[attr-defined]


def test_two_frames_with_one_key_are_refused(data: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    save_rgb(data / "bare" / "only.png", random_image(rng))
    (data / "dataset.toml").write_text('images = "bare/*"\n')
    dataset = open_dataset("folder", data, needs_labels=False)
    assert isinstance(dataset, FileDataset)
    with pytest.raises(InputError, match=r"only\.png: has the name of only\.jpg"):
        write_shards({"train": dataset}, tmp_path / "out", 5)


def test_scenes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["data", "shards", "street_scenes", str(tmp_path / "data"), "--out", str(tmp_path / "o")]) == 2
    )
    assert "iccld data scenes" in capsys.readouterr().err


def test_two_splits_with_one_folder_are_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (data / "dataset.toml").read_text()
    (data / "dataset.toml").write_text(
        text.replace("splits.train", 'splits."a b"').replace("splits.val", "splits.a_b")
    )
    assert _shards(data, tmp_path / "out") == 2
    assert "two splits would have the folder a_b" in capsys.readouterr().err


def test_changed_classes_are_written_again(data: Path, tmp_path: Path) -> None:
    assert _shards(data, tmp_path / "out") == 0
    text = (data / "dataset.toml").read_text()
    (data / "dataset.toml").write_text(
        text.replace('"road", "a \\"b\\"", "sky"', '"sky", "a \\"b\\"", "road"')
    )
    assert _shards(data, tmp_path / "out") == 0
    one, other = (open_dataset("folder", root, split="val") for root in (data, tmp_path / "out"))
    assert one.label_space.names == other.label_space.names == ("sky", 'a "b"', "road")
    np.testing.assert_array_equal(one.label(0), other.label(0))


def test_an_archive_that_the_pattern_does_not_match_is_not_read(data: Path, tmp_path: Path) -> None:
    assert _shards(data, tmp_path / "out") == 0
    (tmp_path / "out" / "train" / "leftover.tar").write_bytes(b"no archive")
    path = tmp_path / "out" / "dataset.toml"
    path.write_text(path.read_text().replace("train/*.tar", "train/0*.tar"))
    assert len(open_dataset("folder", tmp_path / "out", split="train")) == 5
