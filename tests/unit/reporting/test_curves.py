from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from iccld.errors import InputError
from iccld.reporting.charts import running_mean
from iccld.reporting.curves import curves

STEPS = list(range(0, 500, 5))
RUN = {
    "step": STEPS,
    "train/loss_seg_source": [1 / (1 + s) for s in STEPS],
    "train/lr": [1e-3] * len(STEPS),
    "val/miou": [s / 10 if s % 100 == 0 else float("nan") for s in STEPS],
}
BLUE, VERMILION = (0, 114, 178), (213, 94, 0)


def pixels(path: Path, color: tuple[int, int, int]) -> int:
    return int((np.asarray(Image.open(path).convert("RGB")) == color).all(-1).sum())


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_each_run_has_its_color_and_each_metric_its_panel(tmp_path: Path):
    one = curves({"ICCLD": RUN}, tmp_path / "one.png")
    two = curves(
        {"source only": RUN, "ICCLD": {**RUN, "val/miou": [20.0] * len(STEPS)}}, tmp_path / "two.png"
    )
    assert pixels(one, BLUE) > 500
    assert pixels(one, VERMILION) == 0
    assert pixels(two, VERMILION) > 500
    assert size(one) == size(two)  # mIoU and one loss: the learning rate is not asked for
    wider = curves(
        {"ICCLD": RUN}, tmp_path / "three.png", keys=["val/miou", "train/lr", "train/loss_seg_source"]
    )
    assert size(wider)[0] == pytest.approx(1.5 * size(one)[0], abs=2)


def test_files_of_runs_are_read(tmp_path: Path):
    names = list(RUN)
    lines = [",".join(names)]
    lines += [
        ",".join("" if RUN[n][i] != RUN[n][i] else str(RUN[n][i]) for n in names) for i in range(len(STEPS))
    ]
    (tmp_path / "metrics.csv").write_text("\n".join(lines))
    from_file = curves({"run": tmp_path / "metrics.csv"}, tmp_path / "file.png")
    from_memory = curves({"run": RUN}, tmp_path / "memory.png")
    assert np.array_equal(np.asarray(Image.open(from_file)), np.asarray(Image.open(from_memory)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step,train/loss\n1,high\n", "no table of numbers"),
        ("iteration,train/loss\n1,2\n", "no column 'step'"),
        ("step,train/loss\n", "no rows"),
        ("", "no rows"),
        ("step,train/lr\n1,2\n", "run: no metrics to draw"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        curves({"run": tmp_path / "metrics.csv"}, tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"gone\.csv: no such file"):
        curves({"run": tmp_path / "gone.csv"}, tmp_path / "x.png")


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30), st.integers(0, 40))
def test_running_mean_is_the_mean_of_the_neighbors(values: list[float], reach: int):
    expected = [np.mean(values[max(0, i - reach) : i + reach + 1]) for i in range(len(values))]
    np.testing.assert_allclose(running_mean(np.array(values), reach=reach), expected, atol=1e-9)
