"""Start of the runs of a bench: as processes on this machine, as jobs of SLURM (submitit), or as tasks of Ray."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from iccld.errors import InputError, first_line, import_extra
from iccld.inference.runtimes import start_ray

LauncherName = Literal["local", "submitit", "ray"]
STOP_SECONDS = 120.0
"""Time for a run to save a checkpoint after SIGTERM, before it is killed."""


class Job(Protocol):
    """A started run."""

    def poll(self) -> int | None:
        """Returns the exit code, or ``None`` while the run is waiting or at work."""

    def terminate(self) -> None:
        """Asks the run to save a checkpoint and to end."""

    def kill(self) -> None:
        """Ends the run at once."""


Launcher = Callable[[Sequence[str], Path, int], Job]
"""Function that starts a command. The further arguments are a file for the output, and a number of CPU threads."""


def get_launcher(name: LauncherName, work: Path, options: Mapping[str, str | int] | None = None) -> Launcher:
    """Returns a launcher.

    Args:
        name: ``local``, ``submitit`` (jobs of SLURM, or processes on this machine if SLURM is missing) or ``ray``.
        work: Folder for the files of submitit.
        options: Parameters of submitit's ``AutoExecutor.update_parameters``, such as ``slurm_partition``.

    Raises:
        InputError: The package of the launcher is not installed, an option is unknown, or there are options for
            another launcher than submitit.
    """
    if name == "submitit":
        return _submitit(work / "submitit", options or {})
    if options:
        raise InputError("--submit is read by --launcher submitit alone; leave it out")
    return _ray() if name == "ray" else start_local


def run_command(command: Sequence[str], log: str, threads: int) -> int:
    """Runs a command and returns its exit code. If this process is interrupted, the command is terminated."""
    with stopped_at_end(start_local(command, Path(log), threads)) as process:
        return process.wait()


@contextlib.contextmanager
def stopped_at_end(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Terminates a process at the end if it is still running, and kills it if it does not end in time."""
    try:
        yield process
    finally:
        stop(process, STOP_SECONDS)


def stop(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Terminates a process if it is still running, and kills it if it does not end within ``seconds``."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def start_local(command: Sequence[str], log: Path, threads: int) -> subprocess.Popen[bytes]:
    """Starts a command as a process of its own session. Its output is appended to a file.

    ``threads`` is its number of OpenMP threads. 0 keeps the number of the environment.
    """
    with open(log, "ab") as output:
        # The process has its own session, so that Ctrl-C in the terminal does not reach it. ``Job.terminate`` ends it.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {}),
            start_new_session=True,
        )


@dataclass
class _Submitted:
    """A job of submitit. ``job.result`` raises an exception if the job was killed."""

    job: Any
    log: Path

    def poll(self) -> int | None:
        if not self.job.done():
            return None
        try:
            return int(self.job.result())
        except Exception as error:  # submitit wraps the errors of the cluster in classes of its own
            with open(self.log, "a", encoding="utf-8") as log:
                print(first_line(error), file=log)
            return 1

    def terminate(self) -> None:
        self.job.cancel(check=False)

    def kill(self) -> None:
        self.job.cancel(check=False)


def _submitit(folder: Path, options: Mapping[str, str | int]) -> Launcher:
    submitit = import_extra("submitit", "--launcher submitit needs submitit", "cluster")
    executor = submitit.AutoExecutor(folder=folder)
    try:
        executor.update_parameters(name="iccld", **options)
    except (NameError, TypeError, ValueError) as error:
        raise InputError(f"--submit: {first_line(error)}") from error

    def start(command: Sequence[str], log: Path, threads: int) -> Job:
        executor.update_parameters(cpus_per_task=threads)
        return _Submitted(executor.submit(run_command, list(command), os.fspath(log), threads), log)

    return start


@dataclass
class _Task:
    """A task of Ray."""

    ray: Any
    reference: Any
    code: int | None = None

    def poll(self) -> int | None:
        if self.code is None and self.ray.wait([self.reference], timeout=0)[0]:
            try:
                self.code = int(self.ray.get(self.reference))
            except self.ray.exceptions.RayError:
                self.code = 1
        return self.code

    def terminate(self) -> None:
        self.ray.cancel(self.reference)

    def kill(self) -> None:
        self.ray.cancel(self.reference, force=True)


def _ray() -> Launcher:
    ray = start_ray("--launcher ray")
    task = ray.remote(max_retries=0)(run_command)

    def start(command: Sequence[str], log: Path, threads: int) -> Job:
        options = task.options(num_cpus=threads)
        return _Task(ray, options.remote(list(command), os.fspath(os.path.abspath(log)), threads))

    return start
