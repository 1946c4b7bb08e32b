"""``iccld report RUN…``: one HTML page of a run, or of several side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from iccld.commands.flags import JsonFile, OptionalFile, Runs, Threads
from iccld.commands.output import human_text, write_result
from iccld.errors import InputError
from iccld.outputs import Places


@dataclass(frozen=True)
class ReportArgs:
    """Writes a page that explains a run, or compares several: scores, curves, classes, images, calibration.

    Of one run, into its folder; again after a training that was stopped:
      iccld report runs/mine

    Of several, side by side; gains are over the first:
      iccld report runs/source_only runs/iccld --out comparison.html

    A folder that holds runs, as 'iccld demo' leaves it, stands for all of them. The page is one file: it loads
    nothing and can be sent as it is.
    """

    runs: Runs
    """Folders of 'iccld train' or 'iccld demo'."""
    out: OptionalFile = None
    """The HTML file; report.html in the folder given, or in the current one for several."""
    device: str = "auto"
    """Where a run without a record is measured: auto, cpu, cuda, cuda:1, ..."""
    threads: Threads = 0
    """CPU threads for that; 0 for automatic."""
    json: JsonFile = None
    """Where to write the page's path and the runs' names."""

    def run(self) -> int:
        """Reads the runs and writes the page."""
        if not self.runs:
            raise InputError("there is no run to report; give the folder of a run of 'iccld train'")
        from iccld.commands.run_report import find_runs, load_runs
        from iccld.outputs import REPORT
        from iccld.reporting.report import write_report

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
