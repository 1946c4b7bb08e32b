"""``iccld report RUN…``: writes one HTML page of a run, or of several runs side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from iccld.commands.flags import Jobs, JsonFile, OptionalFile, Runs
from iccld.commands.output import human_text, write_result
from iccld.errors import InputError
from iccld.outputs import Places, require_on_disk


@dataclass(frozen=True)
class ReportArgs:
    """Writes an HTML page about one or several runs: scores, curves, classes, images and calibration.

    For one run, the page is written to the run's folder. The run may be unfinished:
      iccld report runs/mine

    For several runs, the page compares the runs. Gains are relative to the first run:
      iccld report runs/source_only runs/iccld --out comparison.html

    A folder that contains runs, such as the output of 'iccld demo', stands for all of these runs. The page is a
    single file that needs no other files and no network.
    """

    runs: Runs
    """Output folders of 'iccld train' or 'iccld demo'."""
    out: OptionalFile = None
    """HTML file to write. The default is report.html in the given folder, or in the current folder if several folders
    are given."""
    device: str = "auto"
    """Device for the evaluation of finished runs that have no scores yet: auto, cpu, cuda, cuda:1, ..."""
    threads: Jobs = 0
    """Number of CPU threads for the evaluation of finished runs that have no scores yet. 0 means automatic."""
    json: JsonFile = None
    """JSON file for the path of the page and the names of the runs."""

    def run(self) -> int:
        """Reads the runs, writes the page, and returns the exit code."""
        if not self.runs:
            raise InputError("there is no run to report; give the folder of a run of 'iccld train'")
        from iccld.commands.run_report import find_runs, load_runs
        from iccld.outputs import REPORT
        from iccld.reporting.report import write_report

        for folder in self.runs:
            require_on_disk("RUN", folder)
        folders = list(dict.fromkeys(path for folder in self.runs for path in find_runs(folder)))
        out = self.out or (self.runs[0] / REPORT if len(self.runs) == 1 else Path(REPORT))
        files = {"--out": (out, "html"), "--json": (self.json, "json")}
        Places(files=files, models=self.runs, own=(REPORT,)).check()
        subjects = load_runs(folders, device=self.device, threads=self.threads)
        page = write_report(out, subjects)
        with human_text(self.json):
            print(f"report: {page}")
        write_result(self.json, {"report": str(page), "runs": [subject.name for subject in subjects]})
        return 0
