"""Results count for the data that they were measured on, wherever these lie."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from iccld.bench.plan import identity, read_plan
from iccld.bench.results import Result, refuse_changed_data, with_roots
from iccld.build import reopen_data
from iccld.errors import InputError

PLAN = """
seeds = [0]
[tasks.a]
preset = "demo"
settings = { "data.target" = "folder" }
[variants.b]
method = "source_only"
"""


def test_results_of_other_data_are_refused_and_moved_data_are_not(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for split in ("train", "val"):
        for part in ("images", "labels"):
            (data / split / part).mkdir(parents=True)
            for index in range(2):
                assert cv2.imwrite(
                    str(data / split / part / f"{index}.png"), np.zeros((8, 8, 3), np.uint8)[..., 0]
                )
    (tmp_path / "plan.toml").write_text(PLAN)
    runs = read_plan(tmp_path / "plan.toml").runs()
    opened = reopen_data(with_roots(runs[0].config, {"folder": str(data)}))
    assert opened is not None
    recorded = opened.describe()
    assert recorded["val"]["images"] == 2
    result = Result(tmp_path / "r.json", identity(runs[0].config), ((1, 1),), {"data": recorded})

    shutil.move(data, tmp_path / "moved")
    roots = {"folder": str(tmp_path / "moved")}
    refuse_changed_data(runs, [result], {"folder": str(data)})  # gone: nothing to compare
    refuse_changed_data(runs, [result], roots)
    for part in ("images", "labels"):
        (tmp_path / "moved" / "val" / part / "1.png").unlink()
    with pytest.raises(
        InputError, match=r"r\.json: was measured on other data: .* there were 2 images, now 1"
    ):
        refuse_changed_data(runs, [result], roots)
    older = Result(result.path, result.identity, result.predictions, {})
    refuse_changed_data(runs, [older], roots)  # it does not say what it was measured on


def test_data_sets_of_one_kind_are_told_apart_by_the_folders_that_the_plan_names(tmp_path: Path) -> None:
    settings = '"data.source" = "folder", "data.source_root" = "data/cars", "data.target" = "folder"'
    text = PLAN.replace('"data.target" = "folder"', f'{settings}, "data.target_root" = "data/fleet"')
    (tmp_path / "plan.toml").write_text(text)
    (run,) = read_plan(tmp_path / "plan.toml").runs()

    def roots(**given: str) -> tuple[str | None, str | None]:
        data = with_roots(run.config, given).data
        return data.source_root, data.target_root

    assert roots() == ("data/cars", "data/fleet")
    assert roots(fleet="/a") == ("data/cars", "/a")
    assert roots(fleet="/a", folder="/b") == ("/b", "/a")
    assert roots(cars="/a", fleet="/b") == ("/a", "/b")
