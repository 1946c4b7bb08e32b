from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fake_data import ArrayDataset, make_camvid, random_ids, random_image, save_gray, truncate

from iccld.data import loaders
from iccld.data.datasets import FileDataset, open_dataset
from iccld.data.loaders import class_counts
from iccld.errors import InputError
from iccld.labels import CAMVID11, CITYSCAPES19


def counted_by_hand(data) -> np.ndarray:
    rows = []
    for i in range(len(data)):
        counter = Counter(data.label(i).ravel().tolist())
        rows.append([counter[c] for c in range(len(data.label_space))])
    return np.array(rows)


def test_counts_equal_a_count_by_hand(tmp_path: Path) -> None:
    make_camvid(tmp_path, count=7)
    data = open_dataset("camvid", tmp_path)
    counts = class_counts(data)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, counted_by_hand(data))
    assert list(tmp_path.iterdir()) == [tmp_path / "train"]


def test_data_without_files_are_counted_and_not_cached(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = [random_ids(rng, [*range(11), 255]) for _ in range(4)]
    data = ArrayDataset([random_image(rng)] * 4, labels, CAMVID11)
    np.testing.assert_array_equal(class_counts(data, tmp_path), counted_by_hand(data))
    assert list(tmp_path.iterdir()) == []


def test_second_call_reads_no_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_camvid(tmp_path / "data")
    first = class_counts(open_dataset("camvid", tmp_path / "data"), tmp_path / "cache")
    monkeypatch.setattr(FileDataset, "label", lambda self, index: pytest.fail("read again"))
    again = class_counts(open_dataset("camvid", tmp_path / "data"), tmp_path / "cache")
    np.testing.assert_array_equal(again, first)


def test_changed_files_and_other_classes_are_counted_anew(tmp_path: Path) -> None:
    make_camvid(tmp_path / "data")

    def count(space=CAMVID11) -> np.ndarray:
        return class_counts(open_dataset("camvid", tmp_path / "data", label_space=space), tmp_path / "cache")

    first = count()
    assert count(CITYSCAPES19).shape == (3, 19)
    save_gray(tmp_path / "data/train/labels/0001TP_000001.png", np.zeros((12, 16), np.uint8))
    changed = count()
    assert changed[1].tolist() == [192] + [0] * 10
    np.testing.assert_array_equal(changed[[0, 2]], first[[0, 2]])


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\0 broken", b"PK\x03\x04 broken", b"no array"])
def test_damaged_cache_is_counted_anew(tmp_path: Path, content: bytes) -> None:
    make_camvid(tmp_path / "data")
    data = open_dataset("camvid", tmp_path / "data")
    first = class_counts(data, tmp_path / "cache")
    (cache,) = (tmp_path / "cache").iterdir()
    cache.write_bytes(content)
    np.testing.assert_array_equal(class_counts(data, tmp_path / "cache"), first)
    np.testing.assert_array_equal(np.load(cache), first)


def test_names_of_own_data_sets_may_hold_anything(tmp_path: Path) -> None:
    make_camvid(tmp_path / "data")
    (tmp_path / "data/dataset.toml").write_text(
        'name = "my/../cars ☺"\nclasses = "cityscapes19"\n'
        'images = "train/images/*.jpg"\nlabels = "train/labels/*.png"'
    )
    class_counts(open_dataset("folder", tmp_path / "data"), tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_broken_label_is_named(tmp_path: Path) -> None:
    make_camvid(tmp_path)
    path = truncate(tmp_path / "train/labels/0001TP_000002.png")
    with pytest.raises(InputError, match=path.name):
        class_counts(open_dataset("camvid", tmp_path), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_progress_counts_every_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_camvid(tmp_path, count=5)
    seen = []

    def track(items, total, description):
        seen.append((total, description))
        yield from items

    monkeypatch.setattr(loaders, "track", track)
    class_counts(open_dataset("camvid", tmp_path))
    assert seen == [(5, "counting classes of camvid")]


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    make_camvid(tmp_path)
    data = open_dataset("camvid", tmp_path)
    gone = tmp_path / "train/images/0001TP_000001.jpg"
    gone.unlink()
    with pytest.raises(InputError, match=rf"{gone.name}: cannot be read"):
        class_counts(data, tmp_path / "cache")
