"""Import of ONNX Runtime, OpenVINO, NNCF and Ray without their usage reports.

OpenVINO sends a report to its authors when it is imported, and NNCF when it is used, unless the user has opted out
(OpenVINO 2026.4, NNCF 3.4). ONNX Runtime does so on Windows, and Ray when it is started. ICCLD sends nothing, so the
reports are turned off before the first import.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import socket
import sys
import warnings
from typing import Any

from iccld.errors import InputError, first_line, import_extra

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


def start_ray(flag: str) -> Any:
    """Starts Ray on this machine, or connects to the cluster in ``RAY_ADDRESS``, and returns the module ``ray``.

    Raises ``InputError`` if Ray is not installed (``flag`` is the flag that needs it), or if there is no cluster.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
    )  # Ray warns of a coming change without it
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray = import_extra("ray", f"{flag} needs Ray", "ray")
    address = os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    quiet = {"log_to_driver": False, "include_dashboard": False, "logging_level": logging.ERROR}
    try:
        if host and port.isdecimal():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(ignore_reinit_error=True, **quiet)
    except OSError as error:
        problem = f"RAY_ADDRESS {address}: no cluster is there ({first_line(error)})"
        raise InputError(f"{problem}; start it, or unset it") from error
    return ray


def _block_reports() -> None:
    # Both packages work without the package that sends the reports. ``None`` makes its import fail.
    sys.modules.setdefault(_REPORTS, None)  # type: ignore[arg-type]
