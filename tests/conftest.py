"""Settings for every test: shape checks on, one thread, the same random examples each run."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import hypothesis
import jaxtyping
import pytest
import torch

# No test has imported iccld yet: from here on its annotated shapes and types are checked at every call.
# The numeric tower lets an int pass for a float, as mypy does.
jaxtyping.install_import_hook("iccld", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

torch.set_num_threads(1)
cv2.setNumThreads(0)
hypothesis.settings.register_profile("iccld", derandomize=True, deadline=None, max_examples=25)
hypothesis.settings.load_profile("iccld")


@pytest.fixture
def read_events() -> Callable[[Path], list[tuple[int, str, float]]]:
    """Reads a folder of event files as TensorBoard shows it: (step, name, value), sorted.

    A file is records of length, its checksum, event, its checksum. A session's start at step s drops what was there
    from s on.
    """
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    def read(folder: Path) -> list[tuple[int, str, float]]:
        shown: list[tuple[int, str, float]] = []
        for path in sorted(folder.glob("events.out.tfevents.*")):
            data, at = path.read_bytes(), 0
            while at < len(data):
                (length,) = struct.unpack_from("<Q", data, at)
                event = Event.FromString(data[at + 12 : at + 12 + length])
                at += 16 + length
                if event.HasField("session_log") and event.session_log.status == SessionLog.START:
                    shown = [figure for figure in shown if figure[0] < event.step]
                shown += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        return sorted(shown)

    return read
