"""Compares the outputs of ``iccld predict`` on every way: folder, manifest, shards, S3 and Ray.

    python benchmarks/same_bytes.py --images 200

Label maps and tables are compared file by file. S3 is the server of rclone on this machine (extra ``scale``). The exit
code is 1 if one of the ways differs from the folder.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_COMMON = ("--write", "labels", "uncertainty", "--threads", "1", "--device", "cpu", "--precision", "fp32")


def main() -> int:
    """Prints one line for each way, and returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="streets")
    parser.add_argument("--images", type=int, default=200)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, _s3_server(Path(scratch) / "buckets") as bucket:
        root = Path(scratch)
        words = ["--count", str(a.images), "--look", "camera", "--height", "96", "--width", "192"]
        subprocess.run(
            [sys.executable, "-m", "street_scenes", str(root / "scenes"), *words],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        frames = root / "scenes" / "leftImg8bit"
        _upload(frames, "bucket/frames")
        _iccld("data", "manifest", frames, "--out", frames / "frames.parquet")
        ways: dict[str, tuple[object, object, list[list[str]]]] = {
            "folder": (frames, root / "folder", [[]]),
            "manifest": (frames / "frames.parquet", root / "manifest", [[]]),
            "three shards": (frames, root / "shards", [["--shard", f"{n}/3"] for n in range(3)]),
            "S3": ("s3://bucket/frames", "s3://bucket/s3", [[]]),
            "S3, two shards": (
                "s3://bucket/frames",
                "s3://bucket/both",
                [["--shard", f"{n}/2"] for n in range(2)],
            ),
            "Ray": (frames, root / "ray", [["--engine", "ray", "--workers", "2"]]),
        }
        wanted: dict[str, str] = {}
        is_equal = True
        for name, (source, out, calls) in ways.items():
            for more in calls:
                _iccld("predict", a.model, source, "--out", out, *_COMMON, *more)
            folder = bucket / str(out).rpartition("/")[2] if str(out).startswith("s3:") else Path(str(out))
            found = _digests(folder)
            wanted = wanted or found
            same = found == wanted and len(found) == 2 * a.images
            is_equal = is_equal and same
            print(f"{name}: {len(found)} files, {'equal' if same else 'DIFFERENT'}", flush=True)
    return 0 if is_equal else 1


def _iccld(*words: object) -> None:
    command = [sys.executable, "-m", "iccld", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _upload(folder: Path, place: str) -> None:
    import fsspec

    fsspec.filesystem("s3").put(f"{folder}/", f"{place}/", recursive=True)


def _digests(folder: Path) -> dict[str, str]:
    paths = [path for kind in ("labels", "uncertainty") for path in sorted((folder / kind).rglob("*.png"))]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@contextmanager
def _s3_server(root: Path) -> Iterator[Path]:
    """Starts a server and sets the environment of S3 clients. Yields the folder of the bucket."""
    (root / "bucket").mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "ICCLD_CACHE": str(root.with_name("copies")),
    }
    program = Path(sys.executable).with_name("rclone")
    words = [program, "serve", "s3", root, "--addr", f"127.0.0.1:{port}", "--auth-key", "key,secret"]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as server:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.1)
        yield root / "bucket"
        server.terminate()


if __name__ == "__main__":
    sys.exit(main())
