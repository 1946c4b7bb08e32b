from __future__ import annotations

import multiprocessing
from collections import namedtuple
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fake_data import make_camvid, make_synthia

from iccld.data.cache import CachedDataset
from iccld.data.datasets import FileDataset, open_dataset
from iccld.data.loaders import SampleStream, UniformSampler
from iccld.data.transforms import TrainTransform
from iccld.errors import InputError, RunFailedError
from iccld.shards import Shard

SIZE = (9, 14)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_camvid(tmp_path / "data", count=4)
    return tmp_path / "data"


def _open(root: Path, labels: bool = True, name: str = "camvid") -> FileDataset:
    data = open_dataset(name, root, needs_labels=labels)
    assert isinstance(data, FileDataset)
    return data


def _cached(root: Path, size: tuple[int, int] | None = SIZE, labels: bool = True) -> CachedDataset:
    return CachedDataset(_open(root, labels), root.parent / "cache", size)


def _no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("iccld.data.datasets.read_image", refuse)
    monkeypatch.setattr("iccld.data.datasets.read_label", refuse)


@pytest.mark.parametrize("size", [SIZE, (24, 32), None])
@pytest.mark.parametrize("labeled", [True, False])
def test_samples_are_the_same_with_and_without(
    root: Path, size: tuple[int, int] | None, labeled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    transform = TrainTransform((8, 8), resize=size, ignore_bottom=0.2)
    sampler = UniformSampler(4, 0)
    plain = SampleStream(_open(root, labeled), transform, sampler, 0, labeled, 0)
    kept = SampleStream(_cached(root, size, labeled), transform, sampler, 0, labeled, 0)
    expected = [plain[n] for n in range(8)]
    first = [kept[n] for n in range(8)]
    _no_decoding(monkeypatch)
    second = [kept[n] for n in range(8)]
    for samples in (first, second):
        for sample, wanted in zip(samples, expected, strict=True):
            assert sample.keys() == wanted.keys()
            for name, value in wanted.items():
                assert torch.equal(sample[name], value) if torch.is_tensor(value) else sample[name] == value


def test_filled_beforehand_nothing_is_decoded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = _cached(root)
    assert cache.missing() == [0, 1, 2, 3]
    assert cache.fill(jobs=2) == 4
    _no_decoding(monkeypatch)
    again = _cached(root)
    assert again.missing() == []
    assert again.fill(jobs=2) == 0
    for index in range(4):
        assert again.image(index).shape == (9, 12, 3), "images of 12×16 keep their shape"
        assert again.label(index).shape == (9, 12)


def test_labels_of_every_format_come_out_as_classes(tmp_path: Path) -> None:
    make_synthia(tmp_path / "data")
    data = _open(tmp_path / "data", name="synthia")
    cache = CachedDataset(data, tmp_path / "cache", None)
    for index in range(len(data)):
        for _ in range(2):  # first decoded, then read from the cache
            np.testing.assert_array_equal(cache.label(index), data.label(index))
            np.testing.assert_array_equal(cache.image(index), data.image(index))


def test_changed_files_and_sizes_have_folders_of_their_own(root: Path) -> None:
    folders = {
        _cached(root).folder,
        _cached(root, (8, 8)).folder,
        _cached(root, None).folder,
        _cached(root, labels=False).folder,
    }
    image = next(root.rglob("*.jpg"))
    assert cv2.imwrite(str(image), np.zeros((12, 16, 3), dtype=np.uint8))
    folders.add(_cached(root).folder)
    assert len(folders) == 5


HEADER = b"\x93NUMPY\x01\x00v\x00"


@pytest.mark.parametrize(
    "damage",
    [b"", b"\x93NUMPY", b"no array at all", HEADER + b"{'descr': " + b" " * 108, HEADER + b"(" * 118],
)
def test_a_damaged_file_is_made_anew(root: Path, damage: bytes) -> None:
    cache = _cached(root)
    expected = np.array(cache.image(1))
    path = cache.folder / "000001.image.npy"
    path.write_bytes(damage)
    np.testing.assert_array_equal(cache.image(1), expected)
    np.testing.assert_array_equal(np.load(path), expected)


def test_a_file_that_was_cut_short_is_made_anew(root: Path) -> None:
    cache = _cached(root)
    expected = np.array(cache.image(1))
    path = cache.folder / "000001.image.npy"
    path.write_bytes(path.read_bytes()[:-7])
    np.testing.assert_array_equal(cache.image(1), expected)


def _read_all(root: Path) -> list[int]:
    cache = _cached(root)
    return [int(cache.image(n).sum()) + int(cache.label(n).sum()) for n in range(4)]


def test_several_processes_fill_one_cache(root: Path) -> None:
    expected = _read_all(root.parent / "data")
    for path in (root.parent / "cache").rglob("*.npy"):
        path.unlink()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(_read_all, [root] * 4) == [expected] * 4
    assert len(list((root.parent / "cache").rglob("*.npy"))) == 8


def test_no_room_is_said_before_anything_is_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("iccld.files.shutil.disk_usage", lambda path: usage(10, 10, 3))
    cache = _cached(root)
    with pytest.raises(RunFailedError, match=r"needs 0\.0 GB more and the disk has 0\.0 GB; free some space"):
        cache.fill(jobs=1)
    assert not cache.folder.exists()


def test_room_is_counted_for_images_and_labels(root: Path) -> None:
    assert _cached(root).bytes_for(3) == 3 * 9 * 12 * 4
    assert _cached(root, labels=False).bytes_for(3) == 3 * 9 * 12 * 3
    assert _cached(root, None).bytes_for(2) == 2 * 12 * 16 * 4


def test_stretched_images_are_kept_apart(root: Path) -> None:
    cache = _cached(root)
    stretched = CachedDataset(_open(root), root.parent / "cache", SIZE, stretch=True)
    assert stretched.folder != cache.folder
    assert stretched.image(0).shape == (*SIZE, 3)
    assert stretched.label(0).shape == SIZE
    assert stretched.bytes_for(3) == 3 * 9 * 14 * 4


def test_a_random_scale_reads_from_the_cache_too(root: Path) -> None:
    transform = TrainTransform((8, 8), scale=(0.8, 1.5), resize=SIZE)
    stream = SampleStream(_cached(root), transform, UniformSampler(4, 0), 0, True, 0)
    for number in (0, 1, 0, 1):  # first decoded, then read from the cache
        sample = stream[number]
        assert sample["image"].shape == (3, 8, 8)
        assert sample["label"].max() <= 255


def test_what_it_gives_is_read_only(root: Path) -> None:
    cache = _cached(root)
    for _ in range(2):
        assert not cache.image(0).flags.writeable
        assert not cache.label(0).flags.writeable


def test_names_of_data_sets_stay_inside(root: Path) -> None:
    data = _open(root)
    data.name = "../elsewhere:1"
    assert CachedDataset(data, root.parent / "cache", SIZE).folder.parent == root.parent / "cache"


def test_a_bad_file_is_named(root: Path) -> None:
    path = next(root.rglob("*.jpg"))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match=path.name):
        _cached(root).fill(jobs=2)


def test_shards_fill_one_cache(root: Path) -> None:
    cache = _cached(root)
    parts = [Shard(index, 3) for index in range(3)]
    missing = [cache.missing(part) for part in parts]
    assert sorted(index for part in missing for index in part) == [0, 1, 2, 3]
    assert [cache.fill(1, part) for part in parts] == [len(part) for part in missing]
    assert cache.missing() == []
