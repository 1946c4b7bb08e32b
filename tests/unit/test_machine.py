from __future__ import annotations

from pathlib import Path

from iccld.machine import free_memory


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


def test_free_memory_in_control_groups_of_version_1(tmp_path: Path) -> None:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text("5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n")
    group = tmp_path / "sys" / "fs" / "cgroup" / "memory"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text("100\n")
    (group / "memory.usage_in_bytes").write_text("130\n")
    assert free_memory(tmp_path) == 0


def test_free_memory_of_this_machine() -> None:
    free = free_memory()
    assert free is None or free > 1 << 20
