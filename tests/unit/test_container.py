"""The Dockerfile and the development container agree with the repository. Nothing is built: no test needs docker."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile with their arguments, without comments, continuation lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    split = (line.strip().partition(" ") for line in joined.splitlines() if line.strip())
    return [(name.upper(), " ".join(rest.split())) for name, _, rest in split]


def stages(text: str) -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage, by the name of the stage; ``""`` holds those before the first one."""
    found: dict[str, list[tuple[str, str]]] = {"": []}
    for name, rest in instructions(text):
        if name == "FROM":
            found[rest.split()[2]] = []
        found[list(found)[-1]].append((name, rest))
    return found


def copied(steps: list[tuple[str, str]]) -> list[str]:
    """The sources that COPY takes from the build context."""
    words = [shlex.split(rest) for name, rest in steps if name in {"COPY", "ADD"}]
    return [path for line in words if not line[0].startswith("--from=") for path in line[:-1]]


def last(steps: list[tuple[str, str]], name: str) -> str:
    return [rest for step, rest in steps if step == name][-1]


@pytest.fixture
def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture
def devcontainer() -> dict[str, Any]:
    return json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))


def test_only_known_instructions_and_stages(dockerfile: str) -> None:
    known = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "RUN", "USER", "WORKDIR"}
    assert {name for name, _ in instructions(dockerfile)} <= known
    found = stages(dockerfile)
    bases = {name: steps[0][1].split()[0] for name, steps in found.items() if name}
    assert bases["base"] == "python:${PYTHON_VERSION}-slim"
    names = list(bases)
    assert all(base in names[: names.index(name)] for name, base in bases.items() if name != "base")
    sources = re.findall(r"--from=(\S+)", dockerfile)
    assert sources
    assert set(sources) <= set(names)


def test_copied_files_exist_and_reach_the_build(dockerfile: str) -> None:
    sources = copied(instructions(dockerfile))
    assert {"constraints.txt", "pyproject.toml", "src"} <= set(sources)
    assert [path for path in sources if not (ROOT / path).exists()] == []
    ignored = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line]
    assert ignored[:2] == ["# Only what the Dockerfile copies.", "*"]
    assert sorted(line[1:] for line in ignored if line.startswith("!")) == sorted(sources)


def test_files_that_the_package_needs_are_copied(dockerfile: str) -> None:
    needed = {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"]}
    assert needed <= set(copied(stages(dockerfile)["build"]))


def test_entry_point_is_a_script_of_the_project(dockerfile: str) -> None:
    runtime = stages(dockerfile)["runtime"]
    assert list(stages(dockerfile))[-1] == "runtime"  # the stage that `docker build` makes by default
    (command,) = json.loads(last(runtime, "ENTRYPOINT"))
    assert command in PROJECT["scripts"]
    assert json.loads(last(runtime, "CMD")) == ["--help"]
    folder = last(runtime, "ENV").split(":")[0].removeprefix("PATH=")
    environment = PurePosixPath(folder).parent
    assert ("COPY", f"--from=build {environment} {environment}") in runtime
    assert ("RUN", f"python -m venv {environment}") in stages(dockerfile)["build"]


def test_python_is_a_supported_version(dockerfile: str) -> None:
    (version,) = [rest.partition("=")[2] for name, rest in stages(dockerfile)[""] if name == "ARG"]
    assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[0]
    assert f"Python {version}" in pinned  # the pinned versions were tested with it


def test_packages_are_pinned_and_extras_exist(dockerfile: str) -> None:
    installs = [rest for _, rest in instructions(dockerfile) if "pip install" in rest]
    assert installs
    assert all("--constraint constraints.txt" in line for line in installs)
    (extras,) = re.findall(r"pip install --constraint constraints\.txt '\.\[([\w,]+)\]'", dockerfile)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


def test_the_user_names_the_index_of_torch(dockerfile: str) -> None:
    assert ("ARG", "TORCH_INDEX=") in stages(dockerfile)["build"]
    assert "://" not in dockerfile


def test_the_image_runs_without_root(dockerfile: str) -> None:
    for stage in ("dev", "runtime"):
        user = last(stages(dockerfile)[stage], "USER")
        assert user not in {"root", "0"}
        assert re.search(rf"useradd .*\b{user}\b", dockerfile)


def test_development_container(devcontainer: dict[str, Any], dockerfile: str) -> None:
    folder = ROOT / ".devcontainer"
    build = devcontainer["build"]
    assert (folder / build["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert (folder / build["context"]).resolve() == ROOT
    steps = stages(dockerfile)[build["target"]]
    assert devcontainer["remoteUser"] == last(steps, "USER")
    command, target = devcontainer["postCreateCommand"].split()
    assert re.search(rf"apt-get install .*\b{command}\b", last(steps, "RUN"))
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
