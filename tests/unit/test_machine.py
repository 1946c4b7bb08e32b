from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from iccld.machine import free_memory, usable_cores


def _system(root: Path, groups: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("", {}, 8),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "2000000 100000\n"}, 8),
        # The strictest group above the process counts.
        (
            "0::/user/job\n",
            {
                "sys/fs/cgroup/user/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/user/job/cpu.max": "max 100000\n",
            },
            3,
        ),
        # Of a container that shows the host's path.
        ("0::/docker/0123\n", {"sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "nonsense\n"}, 8),
        ("nonsense\n", {}, 8),
    ],
)
def test_cores_are_those_of_affinity_and_quota(
    groups: str, files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert usable_cores(_system(tmp_path, groups, files)) == cores


def test_affinity_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3}, raising=False)
    assert usable_cores(_system(tmp_path, "0::/\n", {})) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the parent is looked for once a second")
def test_a_process_ends_with_its_parent() -> None:
    child = (
        "import time\nfrom iccld.machine import end_with_parent\n"
        "end_with_parent()\nprint(1, flush=True)\ntime.sleep(60)"
    )
    parent = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\nprint(child.pid, flush=True)\nchild.wait()"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/status")
        if not status.exists() or "\nState:\tZ" in status.read_text():
            return
        time.sleep(0.02)
    pytest.fail("it lives on")


def test_free_memory_is_the_least_of_machine_group_and_limit(tmp_path: Path) -> None:
    assert free_memory(tmp_path) is None
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    8000 kB\n")
    assert free_memory(tmp_path) == 8000 * 1024
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/a/b\n")
    group = tmp_path / "sys" / "fs" / "cgroup" / "a"
    (group / "b").mkdir(parents=True)
    (group / "b" / "memory.max").write_text("max\n")
    (group / "memory.max").write_text("5000000\n")
    (group / "memory.current").write_text("3000000\n")
    (group / "memory.stat").write_text("anon 7\ninactive_file 1000000\n")
    assert free_memory(tmp_path) == 3_000_000
    (tmp_path / "proc" / "self" / "limits").write_text(
        "Max address space         2048000              unlimited  bytes\n"
    )
    (tmp_path / "proc" / "self" / "status").write_text("VmSize:\t    1000 kB\n")
    assert free_memory(tmp_path) == 2_048_000 - 1000 * 1024


def test_free_memory_of_this_machine() -> None:
    free = free_memory()
    assert free is None or free > 1 << 20
