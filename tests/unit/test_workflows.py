"""The workflows in .github agree with the Makefile and pyproject.toml. Nothing is run."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(name: str) -> dict[str, Any]:
    document = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8"))
    document["on"] = document.pop(True)  # YAML 1.1 reads the key `on` as true
    return document


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


def make_targets(workflow: dict[str, Any]) -> list[str]:
    """The targets of the steps that run make."""
    lines = [line for step in steps(workflow) for line in step.get("run", "").splitlines()]
    return [target for line in lines if line.startswith("make ") for target in line.split()[1:]]


def python_versions(workflow: dict[str, Any]) -> list[str]:
    """The versions that setup-python gets, those of a matrix included."""
    found: list[str] = []
    for job in workflow["jobs"].values():
        for step in job.get("steps", []):
            if step.get("uses", "").startswith("actions/setup-python@"):
                version = step["with"]["python-version"]
                is_matrix = version == "${{ matrix.python }}"
                found += job["strategy"]["matrix"]["python"] if is_matrix else [version]
    return found


def test_the_workflows_are_these() -> None:
    assert [path.stem for path in FILES] == ["docs", "release", "test"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_workflow(path: Path) -> None:
    workflow = read(path.stem)
    assert workflow["name"] == path.stem
    assert workflow["permissions"] == {"contents": "read"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)
    assert set(make_targets(workflow)) <= set(targets)
    supported = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if ":: Python :: 3." in line]
    assert set(python_versions(workflow)) <= set(supported)
    for name, job in workflow["jobs"].items():
        assert set(job.get("needs", [])) <= set(workflow["jobs"]) - {name}
        for step in job.get("steps", []):
            assert ("uses" in step) != ("run" in step)
            if "uses" in step:
                assert re.search(r"@(release/)?v\d+$", step["uses"]), "an action without a major version"
        if "uses" in job:
            called = ROOT / job["uses"]
            assert called in FILES
            assert "workflow_call" in read(called.stem)["on"]
    assert "://" not in path.read_text(encoding="utf-8")


def test_the_tests_run_on_every_supported_python() -> None:
    versions = python_versions(read("test"))
    classified = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if ":: Python :: 3." in line]
    assert versions == classified
    assert all(isinstance(version, str) for version in versions)  # 3.10 without quotes would be 3.1
    assert PROJECT["requires-python"] == f">={versions[0]}"
    assert [version.split(".") for version in versions] == [["3", str(11 + i)] for i in range(len(versions))]


def test_each_workflow_runs_its_targets() -> None:
    assert make_targets(read("test")) == ["check", "test"]
    assert make_targets(read("docs")) == ["docs"]


def test_only_tags_are_published_after_the_tests() -> None:
    jobs = read("release")["jobs"]
    publishing = [name for name, job in jobs.items() if "id-token" in job.get("permissions", {})]
    assert publishing == ["publish"]
    assert "startsWith(github.ref, 'refs/tags/v')" in jobs["publish"]["if"]
    assert set(jobs["publish"]["needs"]) == {"test", "build"}
    commands = [step.get("run", "") for step in jobs["build"]["steps"]]
    assert commands.index("python -m build") < commands.index("python -m twine check --strict dist/*")
    uploads = [
        step["with"]["name"]
        for job in jobs.values()
        for step in job.get("steps", [])
        if "name" in step.get("with", {})
    ]
    assert uploads == ["dist", "dist"]  # what is published is what was built
