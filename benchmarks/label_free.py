"""Rank correlation between scores without labels and the true mIoU, over the methods of a bench.

    python benchmarks/label_free.py benchmarks/results/pairs benchmarks/results/development

For each task, all methods except the oracle are ranked by mIoU, by the entropy of the model (lower is better), by the
agreement of teacher and student (higher is better), and by the scores of ``iccld tune`` if they were recorded. A
correlation of 1 means that the score finds the best method, 0 that it says nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from scipy.stats import spearmanr

from iccld.bench.results import read_results


def main() -> None:
    """Prints one line per task."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    a = parser.parse_args()
    for folder in a.folders:
        for task in sorted(path for path in folder.iterdir() if path.is_dir()):
            results = [r.facts for r in read_results(task) if "/oracle" not in r.facts["run"]]
            if len(results) < 4:
                continue
            true = [facts["miou"] for facts in results]
            last = [facts["checkpoints"][-1] for facts in results]
            scores = {
                "entropy": [-row["entropy"] for row in last],
                "agreement of teacher and student": [row["agreement"] for row in last],
            }
            # Runs before these scores were recorded lack them.
            if all("label_free" in facts for facts in results):
                for name in ("agreement", "snd", "transfer"):
                    scores[name] = [facts["label_free"][name] for facts in results]
            found = ", ".join(f"{name} {spearmanr(true, s).statistic:+.2f}" for name, s in scores.items())
            print(f"{folder.name}/{task.name}: {len(results)} runs, {found}")


if __name__ == "__main__":
    main()
