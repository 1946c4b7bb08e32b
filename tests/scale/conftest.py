"""Real services for the tests of scale: S3 servers and network namespaces. ``make test-scale`` runs these tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `servers`

from servers import free_port, use, wait_for


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Endpoint of an S3 server, and the folder whose subfolders are its buckets."""
    root, port = tmp_path_factory.mktemp("buckets"), free_port()
    (root / "bucket").mkdir()
    program = Path(sys.executable).with_name("rclone")
    words = [
        program,
        "serve",
        "s3",
        root,
        "--addr",
        f"127.0.0.1:{port}",
        "--auth-key",
        "test-key,test-secret",
    ]
    environment = os.environ | {"RCLONE_CONFIG": str(root.with_name("rclone.conf"))}
    with subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL) as server:
        wait_for(port, server)
        yield f"http://127.0.0.1:{port}", root
        server.terminate()


@pytest.fixture
def s3(rclone: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the bucket ``s3://bucket``, on a server that all commands use."""
    use(rclone[0], monkeypatch)
    monkeypatch.setenv("ICCLD_CACHE", str(tmp_path / "copies"))
    return rclone[1] / "bucket"
