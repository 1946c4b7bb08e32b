"""Helpers for the tests of scale: free ports and the environment of S3 clients."""

from __future__ import annotations

import socket
import subprocess
import time

import pytest

_SECONDS = 60.0
"""Seconds after which a server counts as not started."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server ended with {process.returncode}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the server did not start")


def use(endpoint: str, patch: pytest.MonkeyPatch) -> None:
    """Sets the environment of S3 clients, in this process and in those it starts."""
    patch.setenv("AWS_ENDPOINT_URL", endpoint)
    patch.setenv("AWS_ACCESS_KEY_ID", "test-key")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
