"""Whether results were measured on the data that a bench is given now."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from iccld.bench.plan import Run
from iccld.bench.results import Result, find_result
from iccld.config import TrainConfig
from iccld.errors import InputError


def with_roots(config: TrainConfig, roots: Mapping[str, str]) -> TrainConfig:
    """The same run with its data sets where they lie on this machine.

    Args:
        config: of a plan's run.
        roots: folders by the names that ``root_name`` looks for.
    """
    d = config.data
    source, target = (
        planned if (name := root_name(kind, planned, roots)) is None else roots[name]
        for kind, planned in ((d.source, d.source_root), (d.target, d.target_root))
    )
    return dataclasses.replace(config, data=dataclasses.replace(d, source_root=source, target_root=target))


def root_name(kind: str, planned: str | None, roots: Mapping[str, str]) -> str | None:
    """The name under which ``roots`` has a data set's folder, or None.

    It is the last part of the folder that the plan names, so that data sets of one kind are told apart, or else the
    kind itself.
    """
    names = (kind,) if planned is None else (Path(planned).name, kind)
    return next((name for name in names if name in roots), None)


def refuse_changed_data(runs: Sequence[Run], results: list[Result], roots: Mapping[str, str]) -> None:
    """Compares the files that results were measured on with those that are there; what is gone is not compared.

    Raises:
        InputError: names a result and the difference.
    """
    from iccld.assembly import describe_run_data, reopen_data
    from iccld.data.identity import first_difference

    known: dict[TrainConfig, dict[str, Any]] = {}
    for run in runs:
        result = find_result(run, results)
        recorded = result.facts.get("data") if result else None
        if result is None or not isinstance(recorded, Mapping):
            continue
        # What is trained on depends on the method, and on nothing else that differs between variants.
        config = with_roots(TrainConfig(method=run.config.method, data=run.config.data), roots)
        if config not in known:
            data = reopen_data(config)
            known[config] = {} if data is None else describe_run_data(data)
        files = {role: facts for role, facts in known[config].items() if facts["root"] is not None}
        what = first_difference(recorded, files)
        if what is not None:
            raise InputError(
                f"{result.path}: was measured on other data: {what}; give the data of then with --roots, choose "
                "another --results, or remove this file, and it is run again"
            )
