"""The tables of docs/performance.md, from the JSON files in ``benchmarks/performance``: part of ``make results``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "performance"

Facts = Mapping[str, Any]


def performance_tables() -> str:
    """Returns all sections in Markdown. A section without measurements has the text "Not run here."."""
    parts = []
    for name, (title, render) in SECTIONS.items():
        path = FOLDER / f"{name}.json"
        parts.append(f"### {title}")
        if path.is_file():
            facts = json.loads(path.read_text(encoding="utf-8"))
            parts += [render(facts), _origin(facts)]
        else:
            parts.append("Not run here.")
    return "\n\n".join(parts)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *lines])


def _origin(facts: Facts) -> str:
    machine = facts["machine"]
    precision = f", {facts['precision']}" if "precision" in facts else ""
    return (
        f"`{facts['command']}`, commit {facts['commit']}{' with changes' if facts['changed'] else ''}, "
        f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores{precision}, torch {machine['torch']}."
    )


def _ratios(ratios: Mapping[str, Sequence[Any]]) -> str:
    rows = [(name, f"{value:.3g}", bar, _verdict(value, bar)) for name, (value, bar) in ratios.items()]
    return _table(("ratio", "measured", "bar", ""), rows)


def _verdict(value: float, bar: str) -> str:
    sign, _, number = bar.partition(" ")
    if not number:
        return ""
    meets = value >= float(number) if sign == "≥" else value <= float(number)
    return "met" if meets else "**missed**"


def _limits(facts: Facts) -> str:
    return _table(("figure", ""), [(n.replace("_", " "), v) for n, v in facts["figures"].items()])


def _inference(facts: Facts) -> str:
    times = facts["median_ms"]
    rows = [(name.strip(), f"{ms:.1f}", f"{ms / times['image coder']:.2f}") for name, ms in times.items()]
    agreement = "; ".join(
        f"{engine} {100 * share:.2f} %" for engine, share in facts["label_agreement"].items()
    )
    labels = f"\n\nLabels that agree with torch in fp32: {agreement}." if agreement else ""
    table = _table(("what", "ms", "× image coder"), rows)
    return f"{table}\n\n{_ratios(facts['ratios'])}{labels}"


def _memory(facts: Facts) -> str:
    rows = []
    for case in facts["cases"]:
        extras = (f", {case['draws']} draws" if case["draws"] > 1 else "") + (
            ", sliding window" if case["window"] else ""
        )
        size = f"{case['size'][0]}×{case['size'][1]}"
        rows.append((f"`{case['backbone']}`", f"{case['network']}{extras}", size, f"{case['peak_gib']:.2f}"))
    return _table(("backbone", "network", "image", "peak GiB"), rows)


def _train_step(facts: Facts) -> str:
    use = facts["utilization"]
    times = [
        (name, f"{ms:.0f}", f"{use[name]['gflop']:.0f}", f"{100 * use[name]['share_of_peak']:.0f} %")
        for name, ms in facts["mean_ms"].items()
    ]
    tables = [_table(("step", "ms", "GFLOP", "of the peak"), times), _ratios(facts["ratios"])]
    for name, parts in facts["parts"].items():
        rows = [
            (
                p["part"],
                f"{p['ms']:.0f}",
                f"{100 * p['share']:.1f} %",
                f"{p['gflop']:.1f}",
                f"{p['gflops']:.0f}",
            )
            for p in parts
        ]
        tables += [f"{name}, part by part:", _table(("part", "ms", "share", "GFLOP", "GFLOP/s"), rows)]
    for name, kinds in facts["kinds_of_operators"].items():
        shares = ", ".join(f"{kind} {100 * share:.1f} %" for kind, share in kinds.items())
        tables.append(f"{name}, kinds of operators by the profiler: {shares}.")
    return "\n\n".join(tables)


def _data(facts: Facts) -> str:
    rows = [
        (name, way, row["reading"], row["sample"])
        for name, ways in facts["images_per_s"].items()
        for way, row in ways.items()
        if way != "files"
    ]
    table = _table(("files", "way", "reading, images/s", "sample, images/s"), rows)
    return f"{table}\n\n{_ratios(facts['ratios'])}"


def _scaling(facts: Facts) -> str:
    rows = [
        (row["title"], f"{row['seconds']:.2f}", f"{row['images_per_s']:.2f}", f"{row['gib']:.2f}")
        for cases in facts["rows"].values()
        for row in cases
    ]
    powers = [
        (series, *(f"{p[key]:.2f}" for key in ("time", "time_at_the_end", "memory", "memory_at_the_end")))
        for series, p in facts["exponents"].items()
    ]
    tables = [
        _table(("step", "s", "images/s", "GiB above an empty process"), rows),
        _table(("exponent in", "time", "time, two largest", "memory", "memory, two largest"), powers),
        _ratios(facts["bars"]),
    ]
    tables += [f"Left out: {out['case']} ({out['reason']})." for out in facts["left_out"]]
    return "\n\n".join(tables)


def _startup(facts: Facts) -> str:
    reference = next(iter(facts["median_s"].values()))
    rows = [(f"`{name}`", f"{s:.2f}", f"{s / reference:.2f}") for name, s in facts["median_s"].items()]
    table = _table(("process", "s", "× the first"), rows)
    return f"{table}\n\n{_ratios({'predict / import': (facts['predict_to_reference'], '≤ 1.5')})}"


SECTIONS: Mapping[str, tuple[str, Callable[[Facts], str]]] = {
    "limits": ("What the machine can do", _limits),
    "inference_mit_b0_light": ("Prediction, MiT-B0 with light steps", _inference),
    "inference_mit_b0": ("Prediction, MiT-B0", _inference),
    "inference_mit_b0_light_batch4": ("Prediction, MiT-B0 with light steps, batch 4", _inference),
    "inference_mit_b2_light": ("Prediction, MiT-B2 with light steps", _inference),
    "inference_mit_b5_light": ("Prediction, MiT-B5 with light steps", _inference),
    "inference_memory": ("Peak memory of prediction", _memory),
    "train_step": ("A training step", _train_step),
    "data": ("Training data", _data),
    "scaling": ("Growth", _scaling),
    "startup": ("Starting", _startup),
}
