"""Rendering of scenes by several processes at once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


class TestProcesses:
    def test_two_processes_render_once(self, tmp_path: Path) -> None:
        code = """
import sys, time
from pathlib import Path
from iccld.data import street_scenes
from iccld.data.street_scenes import StreetScenes
folder, number, calls, real = Path(sys.argv[1]), sys.argv[2], [], street_scenes.render_scene
def counted(seed, **kwargs):
    calls.append(seed)
    time.sleep(0.05)
    return real(seed, **kwargs)
street_scenes.render_scene = counted
(folder / number).touch()
while not all((folder / n).exists() for n in "12"):
    time.sleep(0.01)
scenes = StreetScenes("both", 4, 48, 64, cache=folder / "scenes")
scenes.prepare()
print(len(calls), sum(int(scenes.image(i).sum()) for i in range(4)))
"""
        command = [sys.executable, "-c", code, str(tmp_path)]
        both = [subprocess.Popen([*command, n], stdout=subprocess.PIPE, text=True) for n in "12"]
        said = sorted(process.communicate(timeout=120)[0].split() for process in both)
        assert [process.returncode for process in both] == [0, 0]
        assert [calls for calls, _ in said] == ["0", "4"]
        assert said[0][1] == said[1][1]
        assert len(list((tmp_path / "scenes").glob("*.npy"))) == 1

    def test_forking_after_opencv_used_its_threads(self) -> None:
        """The children inherit locks of threads that they do not have; they would wait for ever."""
        code = """
import os, sys
import cv2, numpy as np
from iccld.data import street_scenes
from iccld.data.street_scenes import StreetScenes
street_scenes.usable_cores = lambda: 2
cv2.setNumThreads(4)
big = np.zeros((1500, 1500, 3), np.uint8)
cv2.resize(big, (2000, 2000), interpolation=cv2.INTER_CUBIC)
pid = os.getpid()
def render(seed, **kwargs):
    assert os.getpid() != pid
    cv2.resize(big, (1000, 1000), interpolation=cv2.INTER_CUBIC)
    return np.full((48, 64, 3), seed, np.uint8), np.zeros((48, 64), np.uint8)
street_scenes.render_scene = render
scenes = StreetScenes("game", 32, 48, 64)
scenes.prepare()
print(cv2.getNumThreads(), *[scenes.image(i).max() for i in range(32)])
"""
        words = [sys.executable, "-c", code]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["4", *map(str, range(32))]

    @pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
    def test_helpers_end_with_a_process_that_is_killed(self, tmp_path: Path) -> None:
        code = """
import os, sys, time
import numpy as np
from iccld.data import street_scenes
from iccld.data.street_scenes import StreetScenes
street_scenes.usable_cores = lambda: 2
def render(seed, **kwargs):
    time.sleep(0.05)
    return np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64), np.uint8)
street_scenes.render_scene = render
for number, scene in enumerate(StreetScenes("game", 4000, 48, 64).stream(range(4000))):
    if number == 1:
        print("rendering", flush=True)
"""

        def alive() -> list[int]:
            found = []
            for entry in Path("/proc").iterdir():
                with contextlib.suppress(OSError):
                    if entry.name.isdigit() and str(tmp_path).encode() in (entry / "cmdline").read_bytes():
                        found.append(int(entry.name))
            return found

        words = [sys.executable, "-c", code, str(tmp_path)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "rendering\n"
            assert len(alive()) == 3
            process.kill()
        try:
            deadline = time.monotonic() + 20
            while alive() and time.monotonic() < deadline:
                time.sleep(0.02)
            assert alive() == []
        finally:
            for pid in alive():
                os.kill(pid, signal.SIGKILL)
