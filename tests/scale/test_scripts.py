"""The scripts of the documentation for clusters: shellcheck, and the fields of the Kubernetes job."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from iccld.shards import Shard

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {name: (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("scale", "clusters")}
SCRIPTS = {
    f"{name}-{number}": block
    for name, page in PAGES.items()
    for number, block in enumerate(re.findall(r"```sh\n(#!/bin/bash\n.*?)```", page, flags=re.DOTALL))
}


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 2


@pytest.mark.parametrize("name", list(SCRIPTS))
def test_shellcheck_finds_nothing(name: str, tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text(SCRIPTS[name])
    program = Path(sys.executable).with_name("shellcheck")
    # SC1091: the activated environment does not exist here.
    ended = subprocess.run([program, "--exclude", "SC1091", script], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout


def test_the_array_job_predicts_each_shard(tmp_path: Path) -> None:
    """The script is run with a program that prints its words in the place of iccld."""
    (script,) = (text for text in SCRIPTS.values() if "--array" in text)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").write_text(f"PATH={tmp_path}:$PATH\n")
    (tmp_path / "iccld").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "iccld").chmod(0o755)
    first, last = map(int, re.findall(r"--array=(\d+)-(\d+)", script)[0])
    shards = []
    for index in range(first, last + 1):
        environment = os.environ | {"SLURM_ARRAY_TASK_ID": str(index)}
        ended = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        words = ended.stdout.split()
        assert words[0] == "predict"
        shards.append(words[words.index("--shard") + 1])
    assert shards == [str(Shard(index, last + 1)) for index in range(last + 1)]


def test_the_kubernetes_job_predicts_each_shard() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGES["scale"], flags=re.DOTALL)
    job = yaml.safe_load(text)
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    (container,) = spec["template"]["spec"]["containers"]
    command = container["command"][-1]
    assert f"$JOB_COMPLETION_INDEX/{spec['completions']}" in command
