from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
from iccld.machine import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
b"x" * 2**25, b"y" * 2**25
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    b"x" * 2**25
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _has_new_glibc() -> bool:
    name, version = platform.libc_ver()
    return name == "glibc" and tuple(map(int, version.split(".")[:2])) >= (2, 35)


@pytest.mark.skipif(not _has_new_glibc(), reason="mallopt is glibc's; before 2.35 it keeps up to 32 MiB")
def test_freed_memory_is_taken_again_without_page_faults() -> None:
    def faults(way: str, **added: str) -> int:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))
        }
        command = [sys.executable, "-c", _FAULTS, way]
        return int(subprocess.run(command, env=environment | added, check=True, capture_output=True).stdout)

    # Ten times 32 MiB: 8192 pages each, unless the system hands out larger ones.
    assert faults("keep") < 10 < 100 < faults("as it is")
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="131072") > 100, "what the user says of memory counts"


_RELEASED = """
import sys
from iccld.machine import keep_freed_memory, release_freed_memory
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
keep_freed_memory()
held, pin = b"x" * 2**28, b"y" * 2**10
del held
before = resident()
release_freed_memory()
print(before, resident())
"""


@pytest.mark.skipif(not _has_new_glibc(), reason="mallopt is glibc's")
def test_what_was_kept_can_be_released() -> None:
    done = subprocess.run([sys.executable, "-c", _RELEASED], check=True, capture_output=True, text=True)
    before, after = map(int, done.stdout.split())
    assert before - after > 2**28 * 0.9
