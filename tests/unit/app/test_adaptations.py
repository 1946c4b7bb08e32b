"""Adaptations of the app, with a stub instead of the training command."""

from __future__ import annotations

import io
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from iccld.app import adaptation as one
from iccld.app import adaptations as many
from iccld.app.adaptations import Adaptations

# Behaves like ``iccld adapt``: a run folder, progress on stderr, SIGTERM after a checkpoint, an error in one line. The
# first image decides what happens.
_STUB = """
import pathlib, signal, sys, time
images, out = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[4])
first = min(images.iterdir()).name
steps = int(sys.argv[sys.argv.index("--steps") + 1])
(out / "checkpoints").mkdir(parents=True, exist_ok=True)
(out / "run.json").write_text("{}")
def save(*_):
    (out / "checkpoints" / "step-00000002.safetensors").write_bytes(b"")
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print("Rendering 400 scenes: 18/400, 3:33 left", file=sys.stderr, flush=True)
if "fails" in first:
    print(f"iccld: error: {images / first}: is no good; take another", file=sys.stderr)
    sys.exit(2)
print(f"iccld: step 2/{steps}  0.50 s/step  0:01 left  loss 0.9", file=sys.stderr, flush=True)
if "long" in first and not any((out / "checkpoints").iterdir()):
    time.sleep(600)
(out / "model.safetensors").write_bytes(b"weights")
(out / "config.json").write_text("{}")
"""


@pytest.fixture
def make_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Adaptations]]:
    stub = tmp_path / "stub.py"
    stub.write_text(_STUB)
    made = []
    for module in (one, many):
        monkeypatch.setattr(module, "ICCLD_COMMAND", (sys.executable, str(stub)))

    def make(**limits: Any) -> Adaptations:
        sizes = {"max_upload_bytes": 2**20, "max_disk_bytes": 2**21} | limits
        made.append(Adaptations(tmp_path / "adapted", "streets", 400, **sizes))
        return made[-1]

    yield make
    for adaptations in made:
        adaptations.stop_all()


def png(value: int = 90, size: int = 24) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


class Page:
    """Speaks to the routes of one adaptation, as the page's script does."""

    def __init__(self, client: Any) -> None:
        self.client = client
        status, _, body = client.ask("POST", "/adaptations")
        assert status == 201, body
        self.secret = json.loads(body)["secret"]

    def ask(self, method: str, path: str = "", body: bytes | None = None) -> tuple[int, Any]:
        status, _, content = self.client.ask(method, f"/adaptations/{self.secret}/{path}", body)
        return status, json.loads(content) if content[:1] == b"{" else content

    def send(self, name: str, content: bytes | None = None) -> tuple[int, Any]:
        return self.ask("POST", f"images?name={name}", png() if content is None else content)

    def start(self, steps: int = 4) -> tuple[int, Any]:
        return self.ask("POST", "start", json.dumps({"steps": steps}).encode())

    def until(self, *states: str) -> dict[str, Any]:
        for _ in range(600):
            state = self.ask("GET")[1]
            if state["state"] in states:
                return state
            time.sleep(0.1)
        raise AssertionError(state)

    def until_step(self) -> dict[str, Any]:
        for _ in range(600):
            state = self.ask("GET")[1]
            if state["done"]:
                return state
            time.sleep(0.1)
        raise AssertionError(state)


@pytest.fixture
def page(serve: Callable[..., Any], make_all: Callable[..., Adaptations]) -> Iterator[Page]:
    with serve(adaptations=make_all()) as served:
        yield Page(served.client)


def test_from_images_to_a_model(page: Page, tmp_path: Path) -> None:
    assert page.ask("GET")[1]["state"] == "collecting"
    assert [page.send(name)[0] for name in ("b.png", "a.PNG", "b.png")] == [204] * 3
    assert page.start()[0] == 200
    state = page.until("finished")
    assert state["images"] == 3
    assert (state["done"], state["total"]) == (4, 4)
    folder = tmp_path / "adapted" / state["name"]
    assert sorted(p.name for p in (folder / "images").iterdir()) == [
        "00000_b.png",
        "00001_a.png",
        "00002_b.png",
    ]
    status, content = page.ask("GET", "model.zip")
    assert status == 200
    assert content[:2] == b"PK"
    assert page.ask("POST", "remove")[0] == 204
    assert page.ask("GET")[0] == 404
    assert not folder.exists()


def test_a_stopped_training_resumes_with_its_number_of_steps(page: Page) -> None:
    page.send("long.png")
    page.start(8)
    assert page.until_step()["text"] == "0.50 s/step  0:01 left  loss 0.9"
    assert page.ask("POST", "stop")[0] == 204
    state = page.ask("GET")[1]
    assert (state["state"], state["newest"], state["steps"]) == ("stopped", 2, 8)
    assert page.start(400)[0] == 200
    assert page.until("finished")["steps"] == 8


def test_failures_name_the_image_and_no_folder(page: Page, tmp_path: Path) -> None:
    page.send("fails.png")
    page.start()
    state = page.until("failed")
    assert state["text"] == "00000_fails.png: is no good; take another"
    assert str(tmp_path) not in json.dumps(state)


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("notes.txt", b"text", 400),
        ("clip.mp4", png(), 400),
        ("bad.png", b"not an image", 400),
        ("cut.png", png(size=64)[:-40], 400),
        ("empty.png", b"", 400),
        ("large.png", bytes(2**20 + 1), 413),
    ],
)
def test_what_is_no_image_is_refused_and_not_kept(page: Page, name: str, content: bytes, status: int) -> None:
    assert page.send(name, content)[0] == status
    assert page.ask("GET")[1]["images"] == 0
    assert page.start()[0] == 400, "there is nothing to adapt to"


def test_names_lead_nowhere_else(page: Page, tmp_path: Path) -> None:
    assert page.send("..%2F..%2Fover.png")[0] == 204
    assert not list(tmp_path.glob("over.png"))
    assert [p.name for p in tmp_path.glob("adapted/*/images/*")] == ["00000_over.png"]


def test_one_training_at_a_time(page: Page) -> None:
    other = Page(page.client)
    page.send("long.png")
    other.send("a.png")
    page.start()
    status, answer = other.start()
    assert status == 400
    assert "Another adaptation is running" in answer["error"]
    assert page.send("late.png")[0] == 400, "the images of a running training do not change"
    page.ask("POST", "stop")
    assert other.start()[0] == 200
    assert other.until("finished")["images"] == 1


def test_images_of_one_adaptation_have_limited_room(
    serve: Callable[..., Any], make_all: Callable[..., Adaptations]
) -> None:
    content = png()
    with serve(adaptations=make_all(max_disk_bytes=len(content) + 10)) as served:
        page = Page(served.client)
        assert page.send("a.png", b"broken")[0] == 400
        assert page.send("b.png", content)[0] == 204, "what was refused takes no room"
        assert page.send("c.png", content)[0] == 413


def test_the_number_of_adaptations_is_limited(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "MOST_FOLDERS", 2)
    Page(page.client)
    assert page.client.ask("POST", "/adaptations")[0] == 413


def test_another_secret_finds_nothing(page: Page) -> None:
    for secret in ("x", page.secret[:-1], ".."):
        assert page.client.ask("GET", f"/adaptations/{secret}/")[0] == 404


@pytest.mark.parametrize("body", [b"", b"[]", b'{"steps": 1}', b'{"steps": "4"}', b'{"steps": 4, "x": 1}'])
def test_wrong_settings_are_refused(page: Page, body: bytes) -> None:
    page.send("a.png")
    assert page.ask("POST", "start", body)[0] == 400
    assert page.ask("GET")[1]["state"] == "collecting"


def test_results_exist_only_after_the_training(page: Page) -> None:
    page.send("long.png")
    for path in ("model.zip", "model.onnx"):
        assert page.ask("GET", path)[0] == 400
    assert page.ask("POST", "onnx")[0] == 400


def test_the_first_image_is_shown_before_there_are_weights(page: Page) -> None:
    page.send("a.png")
    status, picture = page.ask("GET", "frame/0")
    assert status == 200
    assert picture[:3] == b"\xff\xd8\xff"
    assert page.ask("GET", "frame/1")[0] == 400


def test_nothing_is_shown_of_an_adaptation_without_images_or_folder(page: Page, tmp_path: Path) -> None:
    assert page.ask("GET", "frame/0")[0] == 400
    for folder in (tmp_path / "adapted").iterdir():
        shutil.rmtree(folder)
    assert page.ask("GET")[0] == 404


def test_without_the_flag_there_are_no_routes(serve: Callable[..., Any]) -> None:
    with serve() as served:
        assert served.client.ask("POST", "/adaptations")[0] == 404
        session = served.client.begin()
        assert served.client.ask("POST", f"{session}/compare/x")[0] == 404


def test_the_next_app_finds_stopped_trainings_and_drops_what_never_started(
    make_all: Callable[..., Adaptations], tmp_path: Path
) -> None:
    first = make_all()
    secret, stopped = first.begin()
    with first.receive(stopped, "long.png") as (_, write):
        write(png())
    first.start(stopped, one.Start(6))
    _, never = first.begin()
    while not (stopped.run / "run.json").exists():
        time.sleep(0.05)
    first.stop(stopped)
    (tmp_path / "adapted" / "other").mkdir()
    (tmp_path / "adapted" / "other" / "adaptation.json").write_text('{"digest": 3}')
    second = make_all()
    found = second.find(secret)
    assert found is not None
    assert (found.state, found.record.steps) == ("stopped", 6)
    assert not never.folder.exists()
    assert (tmp_path / "adapted" / "other").exists(), "a foreign folder is left alone"
    second.start(found, one.Start(9))
    assert found.process is not None
    assert found.process.wait(60) == 0
    assert (found.state, found.record.steps) == ("finished", 6)


def test_what_never_started_is_dropped_after_an_hour(
    make_all: Callable[..., Adaptations], monkeypatch: pytest.MonkeyPatch
) -> None:
    adaptations = make_all()
    secret, begun = adaptations.begin()
    adaptations.sweep()
    assert adaptations.find(secret) is begun
    monkeypatch.setattr(time, "monotonic", lambda: begun.touched + 3601)
    adaptations.sweep()
    assert adaptations.find(secret) is None
    assert not begun.folder.exists()


def test_the_secret_is_not_stored(make_all: Callable[..., Adaptations], tmp_path: Path) -> None:
    adaptations = make_all()
    secret, _ = adaptations.begin()
    assert all(secret.encode() not in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
