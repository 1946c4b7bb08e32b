"""TensorBoard's event files, written at once and without threads, so that a killed run loses no figure."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import Logger
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

PATTERN = "events.out.tfevents.*"


class EventFile(Logger):
    """A new event file in a folder; readers take all files of the folder for one run.

    Args:
        folder: made if missing.
        first_step: of what will be logged: readers drop figures of this step and later ones from older files.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # Files are named by the second and read in the order of their names.
        taken = {path.name for path in folder.glob(PATTERN)}
        self._writer = EventsWriter(str(folder / "events"), f".{len(taken):04d}")
        self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    @property
    def name(self) -> str:
        """Lightning asks for one."""
        return "tensorboard"

    @property
    def version(self) -> str:
        """Lightning asks for one."""
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Writes the figures of a step to disk."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._write(Event(step=step or 0, summary=Summary(value=values)))

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Not written: ``run.json`` has the settings."""

    def finalize(self, status: str) -> None:
        """Closes the file."""
        self._writer.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write_event(event)
        self._writer.flush()
