"""Tables against numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iccld.bench.plan import Plan, Run, read_plan
from iccld.bench.results import Pace, read_results
from iccld.bench.tables import Column, overview, plan_tables

Save = Callable[..., Path]
Cells = list[list[str]]


def cells(table: str) -> Cells:
    head, rule, *rows = table.strip().splitlines()
    assert set(rule) == {"|", "-"}
    split = [[cell.strip() for cell in row.strip("|").split("|")] for row in (head, *rows)]
    assert {len(row) for row in split} == {rule.count("---")}
    return split


@pytest.fixture
def tables(plan: Plan, tmp_path: Path) -> Callable[[], dict[str, list[Cells]]]:
    """Reads the text of all tables back: the tables of each task, by its title."""

    def make() -> dict[str, list[Cells]]:
        text = plan_tables(plan, read_results(tmp_path / "results"))
        assert text.startswith("## Side by side\n\n")
        assert text.endswith("\n")
        parts: dict[str, list[Cells]] = {}
        for block in text.strip().split("\n\n")[1:]:
            if block.startswith("### "):
                parts[block.removeprefix("### ")] = []
            else:
                parts[list(parts)[-1]].append(cells(block))
        return parts

    return make


def test_without_results(plan: Plan) -> None:
    assert plan_tables(plan, []) == "## Side by side\n\nNo results yet.\n"


def test_only_tasks_with_results_are_shown(
    runs: dict[str, Run], save_result: Save, tables: Callable[[], dict[str, list[Cells]]]
) -> None:
    save_result(runs["far/iccld/1"])
    assert list(tables()) == ["far"]


def test_scores(
    plan: Plan,
    runs: dict[str, Run],
    save_result: Save,
    tables: Callable[[], dict[str, list[Cells]]],
    tmp_path: Path,
) -> None:
    figures = {
        "near/source_only/3": (20.0, 0.1, 1.0),
        "near/source_only/1": (24.0, 0.2, 2.0),
        "near/advent/3": (19.0, 0.3, 1.5),
        "near/iccld/3": (31.0, 0.5, 2.0),
        "near/iccld/1": (34.0, 0.7, 2.2),
        "near/oracle/3": (40.0, 0.1, 1.0),
        "near/oracle/1": (44.0, 0.1, 1.0),
    }
    for name, (miou, pace, peak) in figures.items():
        save_result(runs[name], miou=miou, seconds_per_adapting_step=pace, peak_gib=peak)
    # 22 ± √8, 32.5 ± √4.5 and 42 ± √8. Gap: (32.5 − 22) / (42 − 22) = 52.5 %, for ADVENT by seed 3 alone
    # (19 − 20) / (40 − 20) = −5 %.
    expected = [
        ["method", "mIoU", "gap closed", "s/step", "GiB", "seeds"],
        ["source only", "22.00 ± 2.83", "–", "0.15", "1.5", "2"],
        ["advent", "19.00", "-5 %", "0.30", "1.5", "1"],
        ["ICCLD", "32.50 ± 2.12", "52 %", "0.60", "2.1", "2"],
        ["oracle", "42.00 ± 2.83", "–", "0.10", "1.0", "2"],
    ]
    assert tables()["Near"][0] == expected
    results = read_results(tmp_path / "results")
    assert cells(Column(plan, plan.tasks["near"], results, None).scores().markdown()) == expected
    # Paces that were measured side by side take the place of the runs' own.
    paced = cells(
        Column(plan, plan.tasks["near"], results, {"near": {"advent": Pace(0.5, 0.777)}}).scores().markdown()
    )
    assert [row[3] for row in paced[1:]] == ["–", "0.78", "–", "–"]


def test_overview(plan: Plan, runs: dict[str, Run], save_result: Save, tmp_path: Path) -> None:
    for name, miou in {
        "near/source_only/3": 20,
        "near/iccld/3": 31,
        "near/iccld/1": 34,
        "near/oracle/3": 40,
    }.items():
        save_result(runs[name], miou=float(miou))
    save_result(runs["far/iccld/3"], miou=50.0)
    table = overview(plan, read_results(tmp_path / "results"))
    # The oracle is not run on the second task, so how much of a gap is closed there is not known.
    assert cells(table.markdown()) == [
        ["method", "Near", "far", "mean gap closed"],
        ["source only", "20.0", "–", "–"],
        ["ICCLD", "32.5 ± 2.1", "50.0", "–"],
        ["oracle", "40.0", "–", "–"],
    ]


def test_overview_averages_the_gap_over_tasks(
    write_plan: Callable[[str], Path], plan_text: str, save_result: Save, tmp_path: Path
) -> None:
    both = read_plan(write_plan(plan_text.rpartition("tasks =")[0]))
    runs = {f"{run.task.name}/{run.variant.name}": run for run in both.runs() if run.seed == 3}
    for task, mious in {"near": (20, 30, 40), "far": (10, 13, 20)}.items():
        for name, miou in zip(("source_only", "iccld", "oracle"), mious, strict=True):
            save_result(runs[f"{task}/{name}"], miou=float(miou))
    rows = cells(overview(both, read_results(tmp_path / "results")).markdown())
    assert rows[2] == ["ICCLD", "30.0", "13.0", "40 %"]  # the mean of 10/20 and 3/10


def test_the_gap_is_closed_by_means_not_by_seeds(
    runs: dict[str, Run], save_result: Save, tables: Callable[[], dict[str, list[Cells]]]
) -> None:
    figures = {"source_only": (10, 20), "iccld": (20, 22), "oracle": (30, 24)}
    for name, values in figures.items():
        for seed, miou in zip((3, 1), values, strict=True):
            save_result(runs[f"near/{name}/{seed}"], miou=miou)
    # Of means: (21 − 15) / (27 − 15) = 50 %; the seeds alone have 10/20 and 2/4, so make one differ.
    assert tables()["Near"][0][2][2] == "50 %"
    save_result(runs["near/iccld/1"], miou=24.0)
    # Of means: (22 − 15) / 12 = 58 %; the mean over the seeds of 10/20 and 4/4 would be 75 %.
    assert tables()["Near"][0][2][2] == "58 %"


@pytest.mark.parametrize("there", [(), ("source_only",), ("oracle",)])
def test_no_gap_without_both_ends(
    there: tuple[str, ...],
    runs: dict[str, Run],
    save_result: Save,
    tables: Callable[[], dict[str, list[Cells]]],
) -> None:
    save_result(runs["near/iccld/3"], miou=30.0)
    for name in there:
        save_result(runs[f"near/{name}/3"], miou=20.0)
    assert {row[2] for row in tables()["Near"][0][1:]} == {"–"}


def test_no_gap_where_the_ends_share_no_seed(
    runs: dict[str, Run], save_result: Save, tables: Callable[[], dict[str, list[Cells]]]
) -> None:
    save_result(runs["near/iccld/3"], miou=30.0)
    save_result(runs["near/source_only/3"], miou=20.0)
    save_result(runs["near/oracle/1"], miou=40.0)
    assert {row[2] for row in tables()["Near"][0][1:]} == {"–"}


def test_no_gap_where_there_is_none_to_close(
    runs: dict[str, Run], save_result: Save, tables: Callable[[], dict[str, list[Cells]]]
) -> None:
    """Runs of a few steps all score the same."""
    for name in ("iccld", "source_only", "oracle"):
        save_result(runs[f"near/{name}/3"], miou=2.0)
    assert {row[2] for row in tables()["Near"][0][1:]} == {"–"}


def measured(steps: int, draws: int, **figures: float | None) -> dict[str, Any]:
    return {"steps": steps, "draws": draws, **figures}


def test_predictions(
    runs: dict[str, Run], save_result: Save, tables: Callable[[], dict[str, list[Cells]]]
) -> None:
    def figures(add: float) -> list[dict[str, Any]]:
        kinds = ("entropy", "confidence", "mutual_information")
        aurocs = {f"auroc_{kind}": 0.5 + 0.1 * i + add / 100 for i, kind in enumerate(kinds)}
        return [
            # Not in the order of the plan, and with one that the plan does not ask for.
            measured(4, 1, miou=31.0 + add, ece=0.2, **aurocs),
            measured(1, 8, miou=32.0 + add, ece=0.1, **aurocs),
            measured(9, 9, miou=99.0, ece=0.9, **aurocs),
            measured(1, 1, miou=30.0 + add, ece=0.25 + add / 100, **aurocs),
        ]

    save_result(runs["near/iccld/3"], predictions=figures(0.0))
    save_result(runs["near/iccld/1"], predictions=figures(2.0))
    # √2 = 1.41 is the sample deviation of x and x + 2; 0.014 that of x and x + 0.02.
    entropy, confidence, information = "0.510 ± 0.014", "0.610 ± 0.014", "0.710 ± 0.014"
    assert tables()["Near"][1] == [
        ["method", "K", "N", "mIoU", "ECE", "AUROC entropy", "AUROC confidence", "AUROC mutual information"],
        ["ICCLD", "1", "1", "31.00 ± 1.41", "0.260 ± 0.014", entropy, confidence, "–"],
        ["ICCLD", "4", "1", "32.00 ± 1.41", "0.200 ± 0.000", entropy, confidence, "–"],
        ["ICCLD", "1", "8", "33.00 ± 1.41", "0.100 ± 0.000", entropy, confidence, information],
    ]


def test_figures_that_could_not_be_measured(
    runs: dict[str, Run], save_result: Save, tables: Callable[[], dict[str, list[Cells]]]
) -> None:
    whole = {"miou": 1.0, "ece": 0.5, "auroc_confidence": 0.5}
    values = [measured(1, 1, **whole, auroc_entropy=None), measured(4, 1, **whole), measured(1, 8, **whole)]
    save_result(runs["near/iccld/3"], predictions=values)
    rows = tables()["Near"][1][1:]
    assert [row[5:] for row in rows] == [["–", "0.500", "–"]] * 3


def test_uncertainty(
    runs: dict[str, Run], save_result: Save, tables: Callable[[], dict[str, list[Cells]]]
) -> None:
    whole = {"miou": 1.0, "ece": 0.5, "auroc_entropy": 0.5, "auroc_confidence": 0.5, "class_ece": 0.02}
    whole |= {"auroc_mutual_information": 0.4}
    more = {"aurc_confidence": 0.1, "fpr95_confidence": 0.3, "aurc_mutual_information": 0.2}
    values = [measured(1, 1, **whole, **more), measured(4, 1, **whole), measured(1, 8, **whole, **more)]
    save_result(runs["near/iccld/3"], predictions=values)
    assert tables()["Near"][2] == [
        ["method", "K", "N", "signal", "AUROC", "AURC", "FPR at 95 % TPR", "class-wise ECE"],
        ["ICCLD", "1", "1", "confidence", "0.500", "0.100", "0.300", "0.020"],
        ["ICCLD", "1", "8", "confidence", "0.500", "0.100", "0.300", "0.020"],
        ["ICCLD", "1", "8", "mutual information", "0.400", "0.200", "–", "0.020"],
    ]


def test_selection(
    runs: dict[str, Run], save_result: Save, tables: Callable[[], dict[str, list[Cells]]]
) -> None:
    def checkpoints(*rows: tuple[int, float, float, float]) -> list[dict[str, float]]:
        return [dict(zip(("step", "miou", "entropy", "agreement"), row, strict=True)) for row in rows]

    # Neither in order nor with the last as the best: each rule takes another checkpoint.
    first = checkpoints((40, 12.0, 0.4, 0.7), (10, 11.0, 0.1, 0.8), (20, 15.0, 0.3, 0.6), (30, 9.0, 0.2, 0.9))
    second = checkpoints((10, 10.0, 0.5, 0.5), (40, 14.0, 0.9, 0.1))
    save_result(runs["near/iccld/3"], checkpoints=first)
    save_result(runs["near/advent/3"], checkpoints=first)
    save_result(runs["near/advent/1"], checkpoints=second)
    # Means of 12 and 14, 11 and 10, 9 and 10, 15 and 14.
    assert tables()["Near"][2] == [
        ["method", "last step", "least entropy", "most agreement", "best by target labels (forbidden)"],
        ["advent", "13.00 ± 1.41", "10.50 ± 0.71", "9.50 ± 0.71", "14.50 ± 0.71"],
        ["ICCLD", "12.00", "11.00", "9.00", "15.00"],
    ]


def test_nothing_is_selected_from_a_single_checkpoint(
    runs: dict[str, Run], save_result: Save, tables: Callable[[], dict[str, list[Cells]]]
) -> None:
    save_result(runs["near/iccld/3"])
    assert [table[0][1] for table in tables()["Near"]] == ["mIoU", "K", "road"]


def test_classes(
    runs: dict[str, Run], save_result: Save, tables: Callable[[], dict[str, list[Cells]]]
) -> None:
    save_result(runs["near/iccld/3"], iou={"road": 80.0, "train": None, "car": 40.0})
    save_result(runs["near/iccld/1"], iou={"road": 84.0, "train": None, "car": None})
    assert tables()["Near"][-1] == [
        ["method", "road", "train", "car"],
        ["ICCLD", "82 ± 3", "–", "40"],
    ]
