"""Comparison of the scores with two independent implementations: cityscapesscripts and torchmetrics."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassConfusionMatrix

from iccld.labels import CITYSCAPES19, CITYSCAPES_ID_TO_TRAIN_ID, IGNORE, PROTOCOLS
from iccld.metrics import ConfusionMatrix, scores_from_confusion

official = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")

TO_TRAIN_ID = np.full(256, IGNORE, np.uint8)
TO_TRAIN_ID[list(CITYSCAPES_ID_TO_TRAIN_ID)] = list(CITYSCAPES_ID_TO_TRAIN_ID.values())
TO_ID = np.zeros(19, np.uint8)
TO_ID[[t for t in CITYSCAPES_ID_TO_TRAIN_ID.values() if t != IGNORE]] = [
    i for i, t in CITYSCAPES_ID_TO_TRAIN_ID.items() if t != IGNORE
]


def test_id_table_is_the_official_one():
    from cityscapesscripts.helpers.labels import labels

    ours = {i: t for i, t in CITYSCAPES_ID_TO_TRAIN_ID.items() if i != 34}  # only GTA5 has the id 34
    assert {e.id: e.trainId for e in labels if e.id >= 0} == ours


@settings(max_examples=30, derandomize=True, deadline=None)
@given(
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    num_ids=st.integers(1, 34),
    num_images=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_counts_and_scores_equal_the_official_ones(
    tmp_path_factory: pytest.TempPathFactory,
    height: int,
    width: int,
    num_ids: int,
    num_images: int,
    seed: int,
):
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("pair")
    # A random subset of the 34 ids, including ignored ids: some classes are absent from truth or prediction.
    present = rng.choice(34, num_ids, replace=False).astype(np.uint8)
    predicted = rng.choice(34, num_ids, replace=False).astype(np.uint8)
    official.args.evalInstLevelScore = False
    theirs = official.generateMatrix(official.args)
    ours = ConfusionMatrix(19)
    for index in range(num_images):
        truth = rng.choice(present, (height, width))
        answer = np.where(rng.random((height, width)) < 0.5, truth, rng.choice(predicted, (height, width)))
        names = save(folder, index, truth, answer)
        official.evaluatePair(*names, theirs, {}, {}, official.args)
        ours.update(torch.from_numpy(TO_TRAIN_ID[answer]), torch.from_numpy(TO_TRAIN_ID[truth]))

    theirs = theirs.astype(np.int64)
    scores = scores_from_confusion(ours, PROTOCOLS["cityscapes19"], num_images=num_images)
    np.testing.assert_array_equal(np.array(scores.confusion), theirs[np.ix_(TO_ID, TO_ID)])
    np.testing.assert_array_equal(
        np.array(scores.unlabeled), theirs[TO_ID].sum(1) - theirs[TO_ID][:, TO_ID].sum(1)
    )
    per_class = {}
    for train_id, name in enumerate(CITYSCAPES19.names):
        expected = official.getIouScoreForLabel(int(TO_ID[train_id]), theirs, official.args)
        value = scores.iou[name]
        per_class[name] = expected
        if np.isnan(expected):
            assert value is None
        else:
            assert value == 100 * expected
    mean = official.getScoreAverage(per_class, official.args)
    assert scores.miou == pytest.approx(100 * mean, rel=1e-12, nan_ok=True)


def save(folder: Path, index: int, truth: np.ndarray, answer: np.ndarray) -> tuple[str, str]:
    names = (str(folder / f"{index}_prediction.png"), str(folder / f"{index}_gtFine_labelIds.png"))
    assert cv2.imwrite(names[0], answer)
    assert cv2.imwrite(names[1], truth)
    return names


@settings(max_examples=20, derandomize=True, deadline=None)
@given(num_classes=st.integers(2, 25), pixels=st.integers(1, 400), seed=st.integers(0, 2**31))
def test_counts_equal_torchmetrics(num_classes: int, pixels: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, num_classes, (pixels,), generator=generator)
    prediction = torch.randint(0, num_classes, (pixels,), generator=generator)
    target[torch.rand(pixels, generator=generator) < 0.2] = IGNORE
    ours = ConfusionMatrix(num_classes)
    ours.update(prediction, target)
    witness = MulticlassConfusionMatrix(num_classes, ignore_index=IGNORE)
    witness.update(prediction, target)
    assert torch.equal(ours.counts[:, :num_classes], witness.compute())
    assert ours.counts[:, num_classes].sum() == 0
