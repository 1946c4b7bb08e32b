from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
from iccld.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
b"x" * 2**25, b"y" * 2**25
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    b"x" * 2**25
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_taken_again_without_page_faults() -> None:
    def faults(way: str, **added: str) -> int:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        command = [sys.executable, "-c", _FAULTS, way]
        return int(subprocess.run(command, env=environment | added, check=True, capture_output=True).stdout)

    # Ten times 32 MiB: 8192 pages each, unless the system hands out larger ones.
    assert faults("keep") < 10 < 100 < faults("as it is")
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="131072") > 100, "what the user says of memory counts"
