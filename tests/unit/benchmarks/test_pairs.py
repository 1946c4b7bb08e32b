"""The folders that describe CARLA for the pairs of the bench."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
import pytest

from iccld.data.datasets import open_dataset
from iccld.errors import InputError
from iccld.labels import CAMVID11

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What ``write_pairs`` makes of 300 frames."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("ICCLD_FOLLOW_OUTSIDE", "1")
    from pairs import write_pairs

    for part, ending in (("images", "jpg"), ("labels", "png")):
        (tmp_path / "carla" / part).mkdir(parents=True)
        for index in range(300):
            picture = np.full((6, 8), (0, 1, 2, 3, 12, 255)[index % 6], np.uint8)
            assert cv2.imwrite(str(tmp_path / "carla" / part / f"000_{index:04d}.{ending}"), picture)
    write_pairs(tmp_path / "carla", tmp_path / "out")
    return tmp_path / "out"


def test_blocks_are_held_out_and_no_frame_is_in_both(pairs: Path) -> None:
    train, val = (
        [pair.image.stem for pair in open_dataset("folder", pairs / "carla_target", split=split).layout.pairs]
        for split in ("train", "val")
    )
    assert sorted(train + val) == [f"000_{index:04d}" for index in range(300)]
    runs = [(held, len(list(group))) for held, group in groupby(sorted(train + val), set(val).__contains__)]
    assert runs == [(False, 96), (True, 24), (False, 96), (True, 24), (False, 60)]


def test_classes(pairs: Path) -> None:
    camvid = open_dataset("folder", pairs / "carla_camvid")
    assert camvid.label_space.names == tuple(n for n in CAMVID11.names if n != "bicyclist")
    idd = open_dataset("folder", pairs / "carla_idd")
    for data, names in ((camvid, ("fence", None)), (idd, ("roadside object", "living thing"))):
        wall, rider = (int(data.label(index)[0, 0]) for index in (3, 4))
        assert tuple(None if i == 255 else data.label_space.names[i] for i in (wall, rider)) == names


def test_a_folder_without_frames(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from pairs import write_pairs

    with pytest.raises(InputError, match="has no JPEG files"):
        write_pairs(tmp_path, tmp_path / "out")
