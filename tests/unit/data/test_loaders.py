from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_data import make_camvid, truncate
from hypothesis import given
from hypothesis import strategies as st

from iccld.data.datasets import open_dataset
from iccld.data.loaders import (
    JoinedStream,
    RareClassSampler,
    SampleStream,
    StepLoader,
    UniformSampler,
    WeightedStreams,
    class_counts,
)
from iccld.data.transforms import TrainTransform
from iccld.errors import InputError

TRANSFORM = TrainTransform((8, 8), scale=(0.8, 1.5))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_camvid(tmp_path, count=6)
    return tmp_path


def make_stream(root: Path, labeled: bool = True, rare: bool = False, seed: int = 0, stream_id: int = 0):
    data = open_dataset("camvid", root, needs_labels=labeled)
    sampler = RareClassSampler(class_counts(data)) if rare else UniformSampler(len(data), seed)
    return SampleStream(data, TRANSFORM, sampler, seed, labeled, stream_id)


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    if first.keys() != second.keys():
        return False
    return all(torch.equal(v, second[k]) if torch.is_tensor(v) else v == second[k] for k, v in first.items())


@pytest.mark.parametrize("rare", [False, True])
def test_sample_holds_what_it_says(root: Path, rare: bool) -> None:
    sample = make_stream(root, rare=rare)[4]
    assert sample.keys() == {"image", "valid", "name", "label"}
    assert sample["image"].shape == (3, 8, 8)
    assert sample["image"].dtype == torch.uint8
    assert sample["label"].shape == sample["valid"].shape == (8, 8)
    assert sample["label"].dtype == torch.int64
    assert sample["valid"].dtype == torch.bool
    assert sample["name"].endswith(".jpg")
    assert make_stream(root, labeled=False)[4].keys() == {"image", "valid", "name"}


def test_sample_shows_the_image_it_names(root: Path) -> None:
    stream = make_stream(root)
    stream.transform = TrainTransform((12, 16), flip=False)
    names = {stream.dataset.file_name(i): i for i in range(6)}
    for number in range(6):
        sample = stream[number]
        index = names[sample["name"]]
        np.testing.assert_array_equal(sample["image"].numpy().transpose(1, 2, 0), stream.dataset.image(index))
        np.testing.assert_array_equal(sample["label"].numpy(), stream.dataset.label(index))


@pytest.mark.parametrize("crop", [(1, 1), (1, 9), (9, 1), (7, 5), (12, 16), (30, 40)])
def test_sample_is_the_transformed_image_with_channels_first(root: Path, crop: tuple[int, int]) -> None:
    stream = make_stream(root)
    stream.transform = TrainTransform(crop)
    for number in range(6):
        rng = np.random.default_rng(np.random.SeedSequence(stream.seed, spawn_key=(stream.stream_id, number)))
        index, want = stream.sampler.draw(rng, number)
        arrays = stream.transform(stream.dataset.image(index), stream.dataset.label(index), rng, want)
        image = stream[number]["image"]
        assert image.is_contiguous()
        np.testing.assert_array_equal(image.numpy(), np.moveaxis(arrays["image"], 2, 0))


@pytest.mark.parametrize("rare", [False, True])
def test_sample_depends_on_its_number_alone(root: Path, rare: bool) -> None:
    forward = [make_stream(root, rare=rare)[n] for n in range(14)]
    stream = make_stream(root, rare=rare)
    for number in (13, 2, 7, 2):
        assert same(stream[number], forward[number])
    assert not same(forward[0], forward[6])


def test_seed_and_stream_tell_samples_apart(root: Path) -> None:
    base = make_stream(root)
    for other in (make_stream(root, seed=1), make_stream(root, stream_id=1)):
        assert sum(same(base[n], other[n]) for n in range(6)) <= 1


def test_labels_are_not_read_from_an_unlabeled_stream(root: Path) -> None:
    for path in (root / "train" / "labels").iterdir():
        path.write_bytes(b"")
    assert make_stream(root, labeled=False)[0]["image"].shape == (3, 8, 8)
    data = open_dataset("camvid", root, needs_labels=False)
    with pytest.raises(AssertionError):
        SampleStream(data, TRANSFORM, UniformSampler(6, 0), 0, True, 0)


def test_resumed_loader_goes_on_exactly(root: Path) -> None:
    whole = list(StepLoader(make_stream(root), 4, 0, 5))
    rest = list(StepLoader(make_stream(root), 4, 3, 5))
    assert len(whole) == 5
    assert len(rest) == 2
    assert all(same(a, b) for a, b in zip(whole[3:], rest, strict=True))
    assert whole[0]["image"].shape == (4, 3, 8, 8)


def test_ranks_share_what_one_process_would_load(root: Path) -> None:
    whole = list(StepLoader(make_stream(root), 4, 0, 3))
    ranks = [list(StepLoader(make_stream(root), 2, 0, 3, rank=r, world_size=2)) for r in range(2)]
    for step in range(3):
        joined = torch.cat([ranks[r][step]["image"] for r in range(2)])
        assert torch.equal(joined, whole[step]["image"])


def test_workers_change_nothing(root: Path) -> None:
    alone = list(StepLoader(make_stream(root, rare=True), 2, 1, 4))
    helped = list(StepLoader(make_stream(root, rare=True), 2, 1, 4, num_workers=2))
    assert all(same(a, b) for a, b in zip(alone, helped, strict=True))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_global_random_state_is_left_alone(root: Path, num_workers: int) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(StepLoader(make_stream(root), 2, 0, 2, num_workers=num_workers))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("labeled", [True, False])
def test_broken_file_is_one_line_also_from_a_worker(root: Path, num_workers: int, labeled: bool) -> None:
    path = truncate(root / "train" / "images" / "0001TP_000003.jpg")
    with pytest.raises(InputError) as error:
        list(StepLoader(make_stream(root, labeled=labeled), 2, 0, 3, num_workers=num_workers))
    assert str(error.value).startswith(f"{path}: JPEG is truncated")
    assert "\n" not in str(error.value)


def test_bugs_keep_their_traceback(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = make_stream(root)
    monkeypatch.setattr(stream.dataset, "image", lambda index: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(StepLoader(stream, 2, 0, 1))


def test_stream_travels_to_spawned_workers(root: Path) -> None:
    stream = make_stream(root, rare=True)
    assert same(pickle.loads(pickle.dumps(stream))[3], stream[3])


@pytest.mark.parametrize(
    ("batch", "wanted"), [(1, "0101"), (2, "01" * 2), (4, "0011" * 2), (5, "00011" * 2), (6, "000111" * 2)]
)
def test_half_of_a_batch_is_labeled_target_images(root: Path, batch: int, wanted: str) -> None:
    joined = JoinedStream(make_stream(root), make_stream(root, stream_id=2), batch)
    samples = [joined.arrays(number) for number in range(len(wanted))]
    assert "".join(str(int(sample["is_target"])) for sample in samples) == wanted
    for stream, kind in ((joined.source, False), (joined.target, True)):
        own = [sample for sample in samples if sample["is_target"] == kind]
        for number, sample in enumerate(own):  # no sample of either stream is skipped
            np.testing.assert_array_equal(sample["image"], stream.arrays(number)["image"])


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=4), st.integers(0, 10**6))
def test_sources_are_drawn_in_proportion_to_their_weights(weights: list[float], start: int) -> None:
    class Marked:
        def __init__(self, source: int) -> None:
            self.source = source

        def arrays(self, number: int) -> dict[str, int]:
            return {"source": self.source, "number": number}

    marked: tuple[Any, ...] = tuple(map(Marked, range(len(weights))))
    stream = WeightedStreams.__new__(WeightedStreams)
    vars(stream).update(streams=marked, weights=tuple(weights))
    samples = [stream.arrays(number) for number in range(start, start + 500)]
    assert [sample["number"] for sample in samples] == list(range(start, start + 500))
    counts = np.bincount([sample["source"] for sample in samples], minlength=len(weights))
    np.testing.assert_allclose(counts / 500, np.array(weights) / sum(weights), atol=0.02)


def test_joined_streams_resume_and_are_shared_by_ranks(root: Path) -> None:
    joined = JoinedStream(make_stream(root), make_stream(root, stream_id=2), 2)
    whole = list(StepLoader(joined, 2, 0, 6))
    assert all(same(a, b) for a, b in zip(whole[4:], StepLoader(joined, 2, 4, 6, num_workers=1), strict=True))
    ranks = [list(StepLoader(joined, 2, 0, 3, rank=r, world_size=2)) for r in range(2)]
    assert same(ranks[1][1], whole[3])
    assert whole[0]["is_target"].tolist() == [False, True]
