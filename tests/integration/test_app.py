"""What ``iccld app`` says before there is a page; the page itself is driven in tests/browser."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from iccld.app.server import bind
from iccld.cli import main
from iccld.commands.app import AppArgs
from iccld.labels import CITYSCAPES19
from iccld.locks import claiming_file
from iccld.models.iccld import ICCLD


def _refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["app", *words]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("iccld: error: ")
    assert err.count("\n") == 1, "one line, no traceback"
    return err


def test_without_its_packages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    error = _refusal(["model", "--port", "0"], capsys)
    assert "iccld app needs starlette and uvicorn" in error
    assert "pip install '.[app]'" in error


def test_it_listens_on_this_machine_alone_by_default() -> None:
    assert AppArgs(("model",)).host == "127.0.0.1"
    assert AppArgs(("model",)).allow_host == ()


def test_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        error = _refusal(["model", "--port", str(port)], capsys)
    assert f"port {port} is in use" in error
    assert "--port" in error


def test_two_apps_cannot_adapt_in_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with claiming_file(tmp_path / "app"):
        error = _refusal(["streets", "--port", "0", "--adapt-in", str(tmp_path)], capsys)
    assert "is used by another app" in error


def test_a_model_that_cannot_be_adapted_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = _refusal([str(tmp_path / "model.onnx"), "--port", "0", "--adapt-in", str(tmp_path)], capsys)
    assert "model.onnx" in error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a", "b", "c"], "3 models given; give one, or two to compare"),
        (["a", "--max-upload-mb", "0"], "max-upload-mb = 0 must be a whole number"),
        (["a", "--port", "0", "--allow-host", "*.example.org"], "allow-host is '*.example.org'"),
    ],
)
def test_flags(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in _refusal(words, capsys)


def test_nothing_stays_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert "no such folder" in _refusal([str(tmp_path / "missing"), "--port", "0"], capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
def test_sigterm_ends_it_while_a_prediction_runs(tmp_path: Path) -> None:
    """Native code that cannot be interrupted is not waited for, and the uploads are removed."""
    model = tmp_path / "model"
    ICCLD(CITYSCAPES19, width=16, latent_channels=4).eval().save_pretrained(model)
    (tmp_path / "tmp").mkdir()
    words = ["app", str(model), "--port", "0", "--device", "cpu", "--threads", "1"]
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    with subprocess.Popen(
        [sys.executable, "-m", "iccld", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as app:
        try:
            assert app.stdout is not None
            line = app.stdout.readline()
            assert line.startswith("iccld app: http://127.0.0.1:"), line
            address = line.split()[2].removeprefix("http://")
            file = io.BytesIO()
            Image.new("RGB", (3000, 2000)).save(file, "PNG")
            predicting = http.client.HTTPConnection(address)
            session = f"/sessions/{json.loads(_post(address, '/sessions'))['session']}"
            _post(address, f"{session}/upload?name=a.png", file.getvalue())
            asked = {"steps": 8, "draws": 16, "opacity": 50, "layer": "classes", "hidden": []}
            predicting.request("POST", f"{session}/segment", json.dumps(asked).encode())
            time.sleep(1)
            app.send_signal(signal.SIGTERM)
            assert app.wait(timeout=30) == 143
            assert app.stderr is not None
            assert app.stderr.read() == "iccld: terminated\n"
            assert not list((tmp_path / "tmp").glob("iccld-*"))
        finally:
            app.kill()
        predicting.close()


def _post(address: str, path: str, body: bytes = b"") -> bytes:
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("POST", path, body)
    try:
        return connection.getresponse().read()
    finally:
        connection.close()
