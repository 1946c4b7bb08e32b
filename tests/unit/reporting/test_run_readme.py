from __future__ import annotations

from pathlib import Path

from iccld.reporting.record import write_readme


def test_it_fits_one_screen_and_names_what_to_type(tmp_path: Path):
    text = write_readme(tmp_path, command="iccld train demo --out x").read_text()
    lines = text.splitlines()
    assert len(lines) <= 24
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 88
    for file in (
        "report.html",
        "model.safetensors",
        "config.json",
        "run.json",
        "metrics.csv",
        "checkpoints/",
    ):
        assert any(line.startswith(f"{file} ") for line in lines), file
    for command in ("predict", "evaluate", "report", "export"):
        assert f"iccld {command} {tmp_path}" in text
    assert lines[-1] == "  iccld train demo --out x"
