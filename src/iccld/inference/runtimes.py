"""Import of ONNX Runtime, OpenVINO and NNCF without their usage reports.

OpenVINO sends a report to its authors when it is imported, and NNCF when it is used, unless the user has opted out
(OpenVINO 2026.4, NNCF 3.4). ONNX Runtime does so on Windows. ICCLD sends nothing, so the reports are turned off before
the first import.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import sys
import warnings
from typing import Any

_REPORTS = "openvino_telemetry"


def import_openvino() -> Any:
    """Imports the module ``openvino``. Raises ``ImportError`` if it is not installed."""
    _block_reports()
    return importlib.import_module("openvino")


def import_nncf() -> Any:
    """Imports the module ``nncf``, which prints no progress. Raises ``ImportError`` if it is not installed."""
    _block_reports()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        nncf = importlib.import_module("nncf")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf


def import_onnxruntime() -> Any:
    """Imports the module ``onnxruntime``. Raises ``ImportError`` if it is not installed."""
    onnxruntime = importlib.import_module("onnxruntime")
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def _block_reports() -> None:
    # Both packages work without the package that sends the reports. ``None`` makes its import fail.
    sys.modules.setdefault(_REPORTS, None)  # type: ignore[arg-type]
