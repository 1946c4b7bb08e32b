"""What ``iccld app`` says before there is a page; the page itself is driven in tests/browser."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from iccld.app.server import bind
from iccld.cli import main


def _refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["app", *words]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("iccld: error: ")
    assert err.count("\n") == 1, "one line, no traceback"
    return err


def test_without_gradio(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    error = _refusal(["model", "--port", "0"], capsys)
    assert error == "iccld: error: iccld app needs gradio: pip install 'iccld[app]'\n"


def test_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        error = _refusal(["model", "--port", str(port)], capsys)
    assert f"port {port} is in use" in error
    assert "--port" in error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a", "b", "c"], "3 models given; give one, or two to compare"),
        (["a", "--max-upload-mb", "0"], "max-upload-mb is 0"),
    ],
)
def test_flags(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in _refusal(words, capsys)


def test_nothing_stays_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Gradio need not be there for a missing model to be refused in its own words."""
    monkeypatch.setattr("iccld.app.server._require_gradio", lambda: None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert "no such folder" in _refusal([str(tmp_path / "missing"), "--port", "0"], capsys)
    assert not list(tmp_path.iterdir())
