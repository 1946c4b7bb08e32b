"""The runtimes of exported models send no usage reports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_REPORTER = """
import pathlib
from unittest.mock import MagicMock

class Telemetry:
    def __init__(self, *args, **settings):
        pathlib.Path({log!r}).write_text("reported")

    def __getattr__(self, name):
        return MagicMock()
"""


def _runs(code: str, folder: Path) -> bool:
    """Runs code in a new process with a reporter that writes a file, and returns whether it has reported."""
    log, package = folder / "log.txt", folder / "openvino_telemetry"
    (package / "backend").mkdir(parents=True)
    (package / "__init__.py").write_text(_REPORTER.format(log=str(log)))
    (package / "backend" / "__init__.py").write_text("")
    (package / "backend" / "backend_ga4.py").write_text("")
    environment = {
        name: value for name, value in os.environ.items() if name not in ("CI", "NNCF_CI", "NNCF_DEV")
    }
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), *sys.path])
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=300)
    return log.exists()


_USES = {"openvino": "import openvino; openvino.convert_model", "nncf": "import nncf"}


@pytest.mark.parametrize("name", _USES)
def test_nothing_is_reported(name: str, tmp_path: Path) -> None:
    use, ours = _USES[name], f"from iccld.inference import runtimes; runtimes.import_{name}()"
    assert _runs(use, tmp_path / "alone")  # otherwise, the test would show nothing
    assert not _runs(f"{ours}; {use}", tmp_path / "ours")
