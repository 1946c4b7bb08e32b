"""Training over two network namespaces, which are two nodes with a network between them, each with one rank."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_ADDRESSES = ("10.77.0.1", "10.77.0.2")
_PORT = 29577
_STEPS = 8


def _ip(words: str) -> None:
    subprocess.run(["ip", *shlex.split(words)], check=True, capture_output=True, timeout=30)


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[str]]:
    """Names of two namespaces that are connected by a pair of virtual interfaces named ``veth0``."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and the program ip")
    names = [f"iccld-{os.getpid()}-{number}" for number in range(2)]
    try:
        _ip(f"netns add {names[0]}")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace can be made here: {error.stderr.decode().strip()}")
    _ip(f"netns add {names[1]}")
    try:
        _ip(f"link add veth0 netns {names[0]} type veth peer name veth0 netns {names[1]}")
        for name, address in zip(names, _ADDRESSES, strict=True):
            _ip(f"-n {name} addr add {address}/24 dev veth0")
            _ip(f"-n {name} link set veth0 up")
            _ip(f"-n {name} link set lo up")
        yield names
    finally:
        for name in names:
            _ip(f"netns del {name}")


def _words(data: Path, out: Path) -> list[str]:
    words = shlex.split(f"""
        train demo --steps {_STEPS} --checkpoint-every 2 --log-every 2 --device cpu --threads 1 --precision fp32
        --data.source folder --data.target folder --data.source-size 64 96 --data.target-size 64 96
        --data.crop 64 64 --data.batch-size 1 --data.num-workers 0 --data.label-space camvid11
        --model.backbone compact --model.width 16 --model.latent-channels 4 --optim.warmup-steps 2
        --adaptation.start 0.25 --adaptation.adversarial-warmup 0.25
    """)
    roots = ["--data.source-root", str(data / "source"), "--data.target-root", str(data / "target")]
    return [*words, *roots, "--out", str(out)]


def _start(node: str, rank: int, words: list[str]) -> subprocess.Popen[str]:
    launcher = [
        "-m",
        "torch.distributed.run",
        "--nnodes",
        "2",
        "--node-rank",
        str(rank),
        "--nproc-per-node",
        "1",
    ]
    launcher += ["--master-addr", _ADDRESSES[0], "--master-port", str(_PORT), "--max-restarts", "0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "veth0"}
    return subprocess.Popen(
        ["ip", "netns", "exec", node, sys.executable, *launcher, "-m", "iccld", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _train(nodes: list[str], words: list[str]) -> None:
    processes = [_start(node, rank, words) for rank, node in enumerate(nodes)]
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said


def _wait_for_checkpoint(out: Path) -> None:
    deadline = time.monotonic() + 120
    while not list((out / "checkpoints").glob("step-*.safetensors")):
        assert time.monotonic() < deadline, "there is no checkpoint"
        time.sleep(0.05)


def _kill_all(node: str) -> None:
    """Kills all processes of a node at once, as a power failure does."""
    found = subprocess.run(["ip", "netns", "pids", node], check=True, capture_output=True, text=True)
    for process in found.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)


def _numbers(out: Path) -> list[str]:
    """Rows of metrics.csv without the columns of times."""
    rows = [line.split(",") for line in (out / "metrics.csv").read_text().splitlines()]
    kept = [place for place, name in enumerate(rows[0]) if "seconds" not in name]
    return [",".join(row[place] for place in kept) for row in rows]


@pytest.fixture(scope="module")
def one_node(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two ranks on one node."""
    out = tmp_path_factory.mktemp("one") / "run"
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "iccld",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*launcher, *_words(tiny_data, out)], check=True, env=environment, timeout=300)
    return out


def test_two_nodes_train_what_two_ranks_train(
    nodes: list[str], one_node: Path, tiny_data: Path, tmp_path: Path
) -> None:
    _train(nodes, _words(tiny_data, tmp_path / "two"))
    assert _numbers(tmp_path / "two") == _numbers(one_node)
    weights = [(out / "model.safetensors").read_bytes() for out in (tmp_path / "two", one_node)]
    assert weights[0] == weights[1]


def test_a_killed_node_ends_the_job_and_the_same_command_continues(
    nodes: list[str], one_node: Path, tiny_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = _words(tiny_data, out)
    processes = [_start(node, rank, words) for rank, node in enumerate(nodes)]
    _wait_for_checkpoint(out)
    _kill_all(nodes[1])
    said = processes[0].communicate(timeout=60)[0]
    assert processes[0].returncode != 0
    assert "the same command goes on from the last checkpoint" in said
    processes[1].communicate()
    _train(nodes, words)
    assert (out / "model.safetensors").read_bytes() == (one_node / "model.safetensors").read_bytes()


def test_a_cut_network_ends_both_nodes(nodes: list[str], tiny_data: Path, tmp_path: Path) -> None:
    """No packet tells either node that the other is gone."""
    out = tmp_path / "run"
    words = [*_words(tiny_data, out), "--steps", "4000"]
    processes = [_start(node, rank, words) for rank, node in enumerate(nodes)]
    _wait_for_checkpoint(out)
    _ip(f"-n {nodes[1]} link set veth0 down")
    try:
        begun = time.monotonic()
        said = [process.communicate(timeout=120)[0] for process in processes]
        print(f"both nodes ended after {time.monotonic() - begun:.0f} s")
    finally:
        _ip(f"-n {nodes[1]} link set veth0 up")
        for node in nodes:
            _kill_all(node)
    assert all(process.returncode for process in processes)
    assert all("has given no sign of life for" in text for text in said)
