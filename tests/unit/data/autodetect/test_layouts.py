"""Each known layout is detected, its ``dataset.toml`` is written and read, and all pixels have the right class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_data import save_gray
from fake_layouts import COPIES, Copy

from iccld.data.autodetect.detect import guess_folder
from iccld.data.autodetect.guess import to_toml
from iccld.data.check import check_dataset
from iccld.data.datasets import FileDataset, open_dataset
from iccld.errors import InputError
from iccld.labels import CAMVID11

_CAMVID_NAMES = {c.name for c in CAMVID11.classes}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_written_file_says_what_was_seen_and_gives_every_pixel_its_class(copy: Copy, tmp_path: Path) -> None:
    truth = copy.write(tmp_path)
    guess = guess_folder(tmp_path)
    assert (guess.layout, guess.builtin) == (copy.layout, copy.builtin)
    assert list(guess.splits) == list(truth)
    text = to_toml(guess)
    assert copy.layout in text
    assert "# Seen:" in text
    assert "# Guessed:" in text
    assert max(map(len, text.splitlines())) <= 120
    (tmp_path / "dataset.toml").write_text(text, encoding="utf-8")
    for split, images in truth.items():
        data = open_dataset("folder", tmp_path, split=split)
        assert isinstance(data, FileDataset)
        found = {pair.image.relative_to(tmp_path).as_posix(): i for i, pair in enumerate(data.layout.pairs)}
        assert found.keys() == images.keys()
        for image, names in images.items():
            called = np.array(
                [*data.label_space.names, *[None] * (256 - len(data.label_space))], dtype=object
            )
            assert (called[data.label(found[image])] == names).all()
        assert check_dataset("folder", tmp_path, split=split).errors == []


def test_from_another_folder(tmp_path: Path) -> None:
    """A ``dataset.toml`` in another folder serves data sets in read-only folders."""
    truth = COPIES["voc"].write(tmp_path / "VOC2012")
    text = to_toml(guess_folder(tmp_path / "VOC2012"), outside=True)
    (tmp_path / "dataset.toml").write_text(text, encoding="utf-8")
    for split in truth:
        assert len(open_dataset("folder", tmp_path, split=split)) == 1


def test_lists_that_do_not_fit_the_images(tmp_path: Path) -> None:
    COPIES["voc"].write(tmp_path)
    lists = tmp_path / "ImageSets/Segmentation"
    save_gray(tmp_path / "SegmentationClass/2007_000039.png", np.full((2, 2), 200, np.uint8))
    (lists / "val.txt").unlink()
    guess = guess_folder(tmp_path)
    assert {name: entry.num_images for name, entry in guess.splits.items()} == {"train": 1}
    assert guess.evidence is not None
    assert 200 not in guess.evidence.ids  # the image with this id is not in a list
    for content, said in (
        (b"2007_1\n", "'2007_1' is no image of"),
        (b"\n", "is empty"),
        (b"\xdf", "no UTF-8 text"),
    ):
        (lists / "val.txt").write_bytes(content)
        with pytest.raises(InputError, match=rf"val\.txt: .*{said}"):
            guess_folder(tmp_path)
