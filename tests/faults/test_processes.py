"""Processes that are killed or starved: every command ends soon, says why, and leaves no process behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD
from iccld.training.tracking import read_metrics

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

LONG = ("--steps", "50000", "--log-every", "1", "--checkpoint-every", "50000", "--data.num-workers", "1")
SOON = 12.0
"""Seconds in which a command has to be gone: ten, and some for a busy machine."""
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def children(pid: int) -> list[int]:
    """The processes below one, nearest first."""
    own = [int(p) for p in _read(Path(f"/proc/{pid}/task/{pid}/children")).split()]
    return own + [below for child in own for below in children(child)]


def is_running(pid: int) -> bool:
    return bool(state := _read(Path(f"/proc/{pid}/status"))) and "\nState:\tZ" not in state


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


@dataclass
class Command:
    """A command in a process group of its own, with what it printed in a file."""

    process: subprocess.Popen[bytes]
    log: Path
    known: set[int] = field(default_factory=set)

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def errors(self) -> list[str]:
        return [line for line in self.text.splitlines() if "iccld: error: " in line]

    def look(self) -> list[int]:
        """Its processes now; all that were ever seen have to be gone in the end."""
        found = children(self.process.pid)
        self.known |= {self.process.pid, *found}
        return found

    def wait_until(self, ready: Callable[[], bool], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if ready():
                self.look()
                return
            assert self.process.poll() is None, self.text
            time.sleep(0.05)
        pytest.fail(f"too slow: {self.text}")

    def ends(self, seconds: float = SOON) -> int:
        """Waits for its end and that of all its processes; returns the exit code."""
        start = time.monotonic()
        code = self.process.wait(seconds + 60)
        while left := [pid for pid in self.known if is_running(pid)]:
            assert time.monotonic() - start < seconds, f"still there: {left}\n{self.text}"
            time.sleep(0.05)
        assert time.monotonic() - start < seconds, self.text
        return code


Start = Callable[..., Command]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    commands: list[Command] = []

    def begin(*words: str, before: str = "", launcher: tuple[str, ...] = ()) -> Command:
        log = tmp_path / f"log{len(commands)}.txt"
        command = [sys.executable, *launcher, "-m", "iccld", *words]
        if before:
            command = ["sh", "-c", f'{before}\nexec "$@"', "sh", *command]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"},
            )  # fmt: skip
        commands.append(Command(process, log))
        return commands[-1]

    yield begin
    for command in commands:
        command.look()
        for pid in command.known:
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
        command.process.kill()
        command.process.wait()


def rows(out: Path) -> int:
    path = out / "metrics.csv"
    return len(read_metrics(path)) if path.is_file() else 0


def saved_step(out: Path) -> int:
    (path,) = (out / "checkpoints").glob("step-*.safetensors")
    return int(path.stem.removeprefix("step-"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS])
@pytest.mark.parametrize("which", [0, -1])
def test_a_loader_that_dies(
    number: int, which: int, start: Start, train_words: Callable[..., list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = start(*train_words(out, *LONG))
    command.wait_until(lambda: rows(out) >= 3)
    loaders = command.look()
    assert len(loaders) == 2
    os.kill(loaders[which], number)
    assert command.ends() == 1
    (line,) = command.errors
    assert signal.Signals(number).name in line
    assert "--data.num-workers" in line
    assert "Traceback" not in command.text
    assert saved_step(out) == rows(out), "not a step is lost"


def test_a_loader_that_stops_and_a_run_that_is_asked_to_end(
    start: Start, train_words: Callable[..., list[str]], tmp_path: Path
) -> None:
    """As one that waits for a disk which does not answer."""
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        out = tmp_path / f"run{number}"
        command = start(*train_words(out, *LONG))
        command.wait_until(lambda out=out: rows(out) >= 2)  # type: ignore[misc]
        os.kill(command.look()[0], signal.SIGSTOP)
        time.sleep(1)  # what it had ready is used up
        command.process.send_signal(number)
        assert command.ends() == code
        assert f"stopped after step {saved_step(out)} and saved" in command.text
        assert "Traceback" not in command.text


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_loader_outlives_a_run(
    number: int, start: Start, train_words: Callable[..., list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = start(*train_words(out, *LONG))
    command.wait_until(lambda: rows(out) >= 2)
    assert len(command.look()) == 2
    command.process.send_signal(number)
    assert command.ends() == (-9 if number == signal.SIGKILL else 143)


@pytest.mark.parametrize("whom", ["renderer", "command"])
def test_renderers(whom: str, start: Start, tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    command = start("data", "scenes", str(out), "--count", "60", "--height", "96", "--width", "128")
    command.wait_until(lambda: len(list(out.rglob("*.png"))) > 4)
    if whom == "command":
        command.process.kill()
        assert command.ends() == -9
        return
    renderers = command.look()
    if renderers:  # none where there is one core
        os.kill(renderers[0], signal.SIGKILL)
    assert command.ends(300) == 0
    assert len(list(out.rglob("*_leftImg8bit.png"))) == 60
    assert not renderers or "warning: the processes that render scenes cannot go on" in command.text


@pytest.mark.parametrize(
    "command",
    [
        ("data", "scenes", "OUT", "--count", "4000"),
        ("demo", "--out", "OUT", "--steps", "5000"),
        ("predict", "MODEL", "DATA", "--out", "OUT"),
        ("evaluate", "MODEL", "--dataset", "folder", "--root", "TARGET"),
    ],
    ids=lambda words: words[0],
)
def test_every_command_ends_at_sigterm_with_143(
    command: tuple[str, ...], start: Start, tiny_data: Path, tmp_path: Path
) -> None:
    """At whatever moment it comes; what is written is whole."""
    model = tmp_path / "model"
    ICCLD(CAMVID11, width=16, latent_channels=4).save_pretrained(model)
    for delay in (2.0, 5.0):
        out = tmp_path / f"out{delay}"
        names = {
            "OUT": str(out),
            "MODEL": str(model),
            "DATA": str(tiny_data),
            "TARGET": str(tiny_data / "target"),
        }
        running = start(*(names.get(word, word) for word in command))
        time.sleep(delay)
        running.look()
        running.process.terminate()
        # Done before, ended by the handler, or, while Python itself was still loading, by the system.
        assert running.ends() in (0, 143, -15)
        assert "Traceback" not in running.text
        assert not list(out.rglob(".*.tmp*")), "half a file"


@pytest.mark.parametrize("size", ["64k", "64m"])
def test_little_shared_memory(
    size: str, start: Start, train_words: Callable[..., list[str]], tmp_path: Path
) -> None:
    if os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("needs the right to mount")
    out = tmp_path / "run"
    mount = f"mount -t tmpfs -o size={size} tmpfs /dev/shm"
    command = start(
        *train_words(out, "--data.num-workers", "2"),
        before=f'[ -n "$IN" ] || IN=1 exec unshare -m sh -c \'{mount} && exec "$@"\' sh "$@"',
    )
    assert command.ends(120) == 0, command.text


@pytest.mark.parametrize("limit", [24])
def test_few_open_files(
    limit: int, start: Start, train_words: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Either it works, with a warning perhaps, or one line names the limit."""
    command = start(*train_words(tmp_path / "run", "--data.num-workers", "4"), before=f"ulimit -n {limit}")
    code = command.ends(120)
    assert "Traceback" not in command.text
    if code:
        (line,) = command.errors
        assert "open files" in line
        assert "ulimit" in line


def test_a_loader_that_cannot_be_started_is_one_line(
    start: Start, train_words: Callable[..., list[str]], tmp_path: Path
) -> None:
    code = (
        "import multiprocessing.context as c, os, sys\n"
        "def refuse(*a): raise OSError(11, os.strerror(11))\n"
        "c.ForkProcess._Popen = staticmethod(refuse)\n"
        "from iccld.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    words = train_words(tmp_path / "run", "--data.num-workers", "2")
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    line = done.stderr.splitlines()[-1]
    assert "a process that loads images could not be started" in line
    assert "ulimit" in line
    assert "0: no such processes" in line


# -- ranks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("whom", ["loader", "rank"])
def test_a_process_of_one_rank_dies(
    whom: str, rank: int, start: Start, train_words: Callable[..., list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = start(*train_words(out, *LONG), launcher=TORCHRUN)
    command.wait_until(lambda: rows(out) >= 3)
    ranks = [
        int(p)
        for p in _read(Path(f"/proc/{command.process.pid}/task/{command.process.pid}/children")).split()
    ]
    assert len(ranks) == 2
    victim = ranks[rank] if whom == "rank" else children(ranks[rank])[0]
    os.kill(victim, signal.SIGKILL)
    assert command.ends(60) != 0
    (line,) = command.errors
    if whom == "loader":
        assert "was killed by SIGKILL" in line
        assert saved_step(out) == rows(out)
    else:
        assert "another rank has ended" in line
    assert not re.search(r'File "[^"]*/iccld/[a-z_/]*\.py"', command.text), "a traceback of ours"


def test_ranks_end_with_their_launcher(
    start: Start, train_words: Callable[..., list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = start(*train_words(out, *LONG), launcher=TORCHRUN)
    command.wait_until(lambda: rows(out) >= 2)
    assert len(command.look()) == 6
    command.process.kill()
    assert command.ends(60) == -9
    assert f"stopped after step {saved_step(out)} and saved" in command.text


@pytest.mark.parametrize("difference", ["steps", "data", "folder"])
def test_ranks_that_differ_are_refused(
    difference: str, train_words: Callable[..., list[str]], tiny_data: Path, tmp_path: Path
) -> None:
    other = {
        "steps": ["--seed", "7"],
        "data": ["--data.source-root", str(tmp_path / "source")],
        "folder": ["--out", str(tmp_path / "elsewhere")],
    }[difference]
    shutil.copytree(tiny_data / "source", tmp_path / "source")
    for kind in ("images", "labels"):
        (tmp_path / "source" / "train" / kind / "0.png").rename(
            tmp_path / "source" / "train" / kind / "x.png"
        )
    words = train_words(tmp_path / "run")
    if difference == "folder":  # a checkpoint that the other rank does not have
        done = subprocess.run([sys.executable, "-m", "iccld", *words, "--stop-at", "2"], timeout=120)
        assert done.returncode == 0
    script = tmp_path / "rank.py"
    script.write_text(
        f"import os, sys\nfrom iccld.cli import main\n"
        f"sys.exit(main(sys.argv[1:] + ({other!r} if os.environ['RANK'] == '1' else [])))\n"
    )
    done = subprocess.run(
        [sys.executable, *TORCHRUN, str(script), *words],
        capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if "iccld: error:" in line]
    named = {
        "steps": "--seed is 7 there and 0 here",
        "data": "labeled images",
        "folder": "start is step 0 there",
    }
    assert "rank 1 differs from rank 0" in line
    assert named[difference] in line
