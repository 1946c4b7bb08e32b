"""``iccld app`` as visitors see it: a real server, a real browser, a tiny model."""

from __future__ import annotations

import functools
import io
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urljoin

import av
import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from iccld.app.answers import Drawing, compose
from iccld.data.image_files import read_label
from iccld.drawing import to_levels
from iccld.inference.rendering import index_to_id
from iccld.labels import CITYSCAPES19
from iccld.models.iccld import ICCLD
from iccld.models.prediction import Prediction

SPACE = CITYSCAPES19
WAIT = 60_000  # milliseconds: machines of continuous integration are slow
expect.set_options(timeout=WAIT)


# -- the server ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two untrained models that say different things."""
    folder = tmp_path_factory.mktemp("models")
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = ICCLD(SPACE, width=16, latent_channels=4).eval()
        for weight in model.parameters():
            if not weight.any():  # blocks start as their shortcuts
                torch.nn.init.normal_(weight, std=0.05)
        model.save_pretrained(folder / f"run{seed}")
    return [folder / "run0", folder / "run1"]


@contextmanager
def _serve(words: list[str], folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Starts the app with its temporary files in a folder; ends it with Ctrl-C."""
    log = folder / "stderr.txt"
    (folder / "tmp").mkdir()
    command = [
        sys.executable,
        "-m",
        "iccld",
        "app",
        *words,
        "--port",
        "0",
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=os.environ | {"TMPDIR": str(folder / "tmp")},
            # A shell's background job ignores Ctrl-C, and so would what it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("iccld app: http://127.0.0.1:"), log.read_text()
        yield line.split()[2], process
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert log.read_text() == "iccld: interrupted\n", "no traceback, no chatter"
        assert not list((folder / "tmp").glob("iccld-*")), "uploads are gone"
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def address(models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of the app with two models that takes files of 1 MiB."""
    words = [*map(str, models), "--max-upload-mb", "1"]
    with _serve(words, tmp_path_factory.mktemp("app")) as (url, _):
        yield url


# -- the page ------------------------------------------------------------------------------------------


def is_error(message: ConsoleMessage, expected: str) -> bool:
    return message.type in ("error", "warning") and not (expected and expected in message.text)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """Opens the page; at the end there were no errors, and no request to any other machine."""
    pages, errors, urls = [], [], []

    def open_page(width: int = 1280, scheme: str = "light", url: str = address, failing: str = "") -> Page:
        """``failing``: words in the console's messages on answers that the test provokes."""
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        pages.append(page)
        page.on("request", lambda request: urls.append(request.url))
        page.on("console", lambda m: errors.append(m.text) if is_error(m, failing) else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        page.wait_for_selector("body[data-ready]", timeout=WAIT)
        return page

    yield open_page
    for page in pages:
        page.close()
    foreign = [url for url in urls if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))]
    assert urls
    assert not foreign
    assert not errors


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96×160 pixels of colored blocks."""
    blocks = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("images") / "street.png"
    Image.fromarray(blocks.repeat(16, axis=0).repeat(16, axis=1)).save(path)
    return path


def _upload(page: Page, path: Path) -> None:
    page.set_input_files("#upload input[type=file]", path)


def _upload_image(page: Page, path: Path) -> None:
    _upload(page, path)
    expect(page.locator("#progress")).to_be_hidden()
    expect(page.locator("#download")).to_be_visible()
    expect(page.locator("#chosen")).to_have_text(path.name)


def _picture(page: Page, index: int) -> np.ndarray:
    source = page.locator(".picture img").nth(index).get_attribute("src", timeout=WAIT)
    assert source is not None
    picture = page.request.get(urljoin(page.url, source)).body()
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), np.float32)


def _expect_picture(page: Page, index: int, wanted: np.ndarray, other: np.ndarray) -> None:
    """Waits for a picture (lossy ones are shown) that is near one and far from another."""
    deadline = time.monotonic() + WAIT / 1000
    while True:
        shown = _picture(page, index)
        assert shown.shape == wanted.shape
        near, far = (float(np.abs(shown - picture).mean()) for picture in (wanted, other))
        if near < far / 3:
            return
        assert time.monotonic() < deadline, (near, far)
        page.wait_for_timeout(100)


@pytest.fixture(scope="module")
def said(models: list[Path], street: Path) -> list[Prediction]:
    """What the models say, without the app."""
    image = np.array(Image.open(street))
    return [ICCLD.from_pretrained(model).eval().predict(image) for model in models]


@pytest.fixture(scope="module")
def drawn(said: list[Prediction], street: Path) -> Callable[..., np.ndarray]:
    """Draws it."""
    image = np.array(Image.open(street))

    def draw(index: int, **drawing: object) -> np.ndarray:
        levels = to_levels(said[index].relative_uncertainty)
        return compose(image, said[index].labels, levels, SPACE, Drawing(**drawing)).astype(np.float32)

    return draw


# -- images --------------------------------------------------------------------------------------------


def test_image_to_overlays_side_by_side(
    open_page: Callable[..., Page],
    street: Path,
    drawn: Callable[..., np.ndarray],
    said: list[Prediction],
) -> None:
    page = open_page()
    _upload_image(page, street)
    image = np.array(Image.open(street), np.float32)
    for index in (0, 1):
        _expect_picture(page, index, drawn(index), image)
        facts = page.locator(".facts-of-model").nth(index)
        expect(facts).to_contain_text(f"run{index}: ")
        expect(facts).to_contain_text("ms on cpu for 160×96 pixels, K\u00a0=\u00a01, N\u00a0=\u00a01")
    labels = [prediction.labels for prediction in said]
    share = f"{(labels[0] == labels[1]).mean() * 100:.1f} %"
    expect(page.locator("#agreement")).to_contain_text(f"agree on {share} of the pixels")
    first = int(np.bincount(labels[0].ravel(), minlength=19).argmax())
    share = f"{(labels[0] == first).mean() * 100:.1f} / {(labels[1] == first).mean() * 100:.1f} %"
    expect(page.locator("#legend")).to_contain_text(f"{SPACE.names[first]} {share}")


def test_opacity_classes_and_layer_change_the_picture_alone(
    open_page: Callable[..., Page],
    street: Path,
    drawn: Callable[..., np.ndarray],
    said: list[Prediction],
) -> None:
    page = open_page()
    _upload_image(page, street)
    _expect_picture(page, 0, drawn(0), drawn(0, opacity=0))
    facts = page.locator(".facts-of-model").first.inner_text()
    opacity = page.locator("#opacity input[type=range]")
    opacity.press("End")
    _expect_picture(page, 0, drawn(0, opacity=100), drawn(0))
    name = SPACE.names[np.bincount(said[0].labels.ravel()).argmax()]
    box = page.locator("#legend label", has_text=name).locator("input")
    box.uncheck()
    hidden = (name,)
    _expect_picture(page, 0, drawn(0, opacity=100, hidden=hidden), drawn(0, opacity=100))
    box.check()
    page.locator("#layer").get_by_text("Uncertainty").click()
    _expect_picture(page, 0, drawn(0, opacity=100, layer="uncertainty"), drawn(0, opacity=100))
    _expect_picture(page, 1, drawn(1, opacity=100, layer="uncertainty"), drawn(1, opacity=100))
    opacity.press("Home")
    _expect_picture(page, 0, drawn(0, opacity=0), drawn(0, opacity=100, layer="uncertainty"))
    assert page.locator(".facts-of-model").first.inner_text() == facts, "nothing was predicted again"


def test_hiding_all_classes(
    open_page: Callable[..., Page], street: Path, drawn: Callable[..., np.ndarray]
) -> None:
    page = open_page()
    _upload_image(page, street)
    page.get_by_role("button", name="None").click()
    _expect_picture(page, 0, drawn(0, opacity=0), drawn(0))
    page.get_by_role("button", name="All classes").click()
    _expect_picture(page, 0, drawn(0), drawn(0, opacity=0))


def test_steps_and_draws_predict_again_and_masks_are_the_models(
    open_page: Callable[..., Page], street: Path, models: list[Path]
) -> None:
    page = open_page()
    _upload_image(page, street)
    page.locator("#steps input[type=range]").press("ArrowRight")
    expect(page.locator(".facts-of-model").first).to_contain_text(
        "K\u00a0=\u00a02, N\u00a0=\u00a01", timeout=WAIT
    )
    page.locator("#draws input[type=range]").press("ArrowRight")
    expect(page.locator(".facts-of-model").last).to_contain_text(
        "K\u00a0=\u00a02, N\u00a0=\u00a02", timeout=WAIT
    )
    expect(page.locator("#download")).to_be_visible(timeout=WAIT)
    with page.expect_download() as download:
        page.locator("#download").click()
    assert download.value.suggested_filename == "street_masks.zip"
    image = np.array(Image.open(street))
    with zipfile.ZipFile(download.value.path()) as archive:
        for number, model in enumerate(models, start=1):
            stored = Image.open(io.BytesIO(archive.read(f"model{number}/labels/street.png")))
            wanted = ICCLD.from_pretrained(model).eval().predict(image, steps=2, draws=2)
            np.testing.assert_array_equal(np.asarray(stored), wanted.labels)


# -- files that are refused ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bad_files(street: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    (folder / "notes.png").write_text("no image")
    (folder / "empty.png").write_bytes(b"")
    Image.open(street).save(folder / "whole.jpg")
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:-200])
    Image.new("1", (8000, 6000)).save(folder / "huge.png")
    (folder / "large.png").write_bytes(bytes(2**20 + 1000))
    with av.open(str(folder / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return folder


def test_files_that_cannot_be_decoded(open_page: Callable[..., Page], street: Path, bad_files: Path) -> None:
    page = open_page()
    notice = page.locator("#notice")
    for name, said in (
        ("notes.png", "notes.png: is a text"),
        ("empty.png", "empty.png: is empty"),
        ("cut.jpg", "cut.jpg: JPEG is truncated"),
        ("huge.png", "huge.png: has 8000×6000 pixels, more than the 40 million"),
        ("sound.mp4", "sound.mp4: holds no video"),
    ):
        _upload(page, bad_files / name)
        expect(notice).to_contain_text(said)
        assert str(Path.home().anchor) + "tmp" not in notice.inner_text(), "no path of the server"
    _upload_image(page, street)
    expect(notice).to_be_hidden()
    expect(page.locator(".picture img")).to_have_count(2)


def test_files_that_are_too_large(open_page: Callable[..., Page], street: Path, bad_files: Path) -> None:
    page = open_page()
    _upload(page, bad_files / "large.png")
    expect(page.locator("#notice")).to_contain_text("large.png: is larger than the 1 MiB that are taken here")
    _upload_image(page, street)


def test_a_session_that_was_forgotten_is_begun_again(open_page: Callable[..., Page], street: Path) -> None:
    """After a night with the lid closed the page still works: it hands the file in once more."""
    page = open_page(failing="404 (Not Found)")
    _upload_image(page, street)
    page.evaluate("post('end')")
    page.locator("#steps input[type=range]").press("ArrowRight")
    expect(page.locator(".facts-of-model").first).to_contain_text("K\u00a0=\u00a02")
    expect(page.locator(".picture img")).to_have_count(2)
    expect(page.locator("#notice")).to_be_hidden()


def test_clearing(open_page: Callable[..., Page], street: Path) -> None:
    page = open_page()
    _upload_image(page, street)
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".picture img")).to_have_count(0)
    expect(page.locator("#download")).to_be_hidden()
    _upload_image(page, street)


def test_names_are_text(open_page: Callable[..., Page], street: Path, tmp_path: Path) -> None:
    page = open_page()
    named = tmp_path / "<img src=x onerror=alert(1)>.png"
    named.write_bytes(b"no image")
    _upload(page, named)
    expect(page.locator("#notice")).to_contain_text("is a text")
    assert page.locator("img").count() == 0


def test_other_sites_cannot_read_or_drive_the_page(browser: Browser, address: str, tmp_path: Path) -> None:
    """A page on another port of the same host: fetched, posted to, embedded and framed, nothing is answered."""
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    (tmp_path / "index.html").write_text("<!doctype html><title>evil</title>")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as evil:
        threading.Thread(target=evil.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{evil.server_address[1]}/")
        got = page.evaluate(
            """async (address) => {
                const tried = {};
                for (const mode of ["cors", "no-cors"]) for (const method of ["GET", "POST"]) {
                    const answer = await fetch(address + "/sessions", {method, mode}).catch(() => null);
                    tried[mode + method] = answer ? await answer.text() : "";
                }
                for (const [tag, path] of [["img", "/"], ["script", "/page.js"]]) {
                    const element = document.createElement(tag);
                    tried[tag] = await new Promise((done) => {
                        element.onload = () => done("loaded");
                        element.onerror = () => done("");
                        element.src = address + path;
                        document.body.append(element);
                    });
                }
                return tried;
            }""",
            address,
        )
        evil.shutdown()
        page.close()
    assert set(got.values()) == {""}


# -- video, small screens, the end ---------------------------------------------------------------------


def _clip(path: Path, frames: int) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        rng = np.random.default_rng(0)
        for _ in range(frames):
            picture = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_video_becomes_a_video_that_plays(open_page: Callable[..., Page], tmp_path: Path) -> None:
    page = open_page()
    _upload(page, _clip(tmp_path / "clip.mp4", 5))
    expect(page.locator(".facts-of-model").last).to_contain_text("run1: 5 frames, ")
    videos = page.locator("video")
    expect(videos).to_have_count(2)
    # Not wait_for_function: it polls by evaluating a string, which the page's own policy forbids.
    page.evaluate(
        """patience => Promise.race([
            Promise.all([...document.querySelectorAll('video')].map(video => video.readyState > 1 ||
                new Promise(ready => video.addEventListener('loadeddata', () => ready(true))))),
            new Promise((_, fail) => setTimeout(() => fail(new Error('a video is not ready')), patience)),
        ])""",
        WAIT,
    )
    assert videos.first.evaluate("v => [v.videoWidth, v.videoHeight, v.duration]") == [64, 48, 1]
    expect(page.locator("#again")).to_be_visible()
    expect(page.locator("#download")).to_be_hidden()


def _ids(page: Page, tmp_path: Path) -> np.ndarray:
    """Downloads the edited label map, and reads it as every command of the package does."""
    with page.expect_download() as download:
        page.click("#brush-save")
    assert download.value.suggested_filename == "street.png"
    download.value.save_as(tmp_path / "street.png")
    return np.asarray(read_label(tmp_path / "street.png"))


@pytest.mark.parametrize("width", [1280, 390])
def test_labels_are_corrected_with_a_brush(
    open_page: Callable[..., Page], street: Path, said: list[Prediction], tmp_path: Path, width: int
) -> None:
    page = open_page(width=width)
    _upload_image(page, street)
    page.locator("button.edit").nth(1).click()
    canvas = page.locator("#brush canvas")
    expect(canvas).to_be_visible()
    page.screenshot(path=tmp_path / "before.png")
    table = index_to_id(SPACE, "train")
    predicted = table[said[1].labels]
    np.testing.assert_array_equal(_ids(page, tmp_path), predicted)

    page.select_option("#brush-class", label=SPACE.names[-1])
    page.fill("#brush-size input", "21")
    box = canvas.bounding_box()
    assert box is not None
    scale = box["width"] / predicted.shape[1]
    assert box["height"] == pytest.approx(predicted.shape[0] * scale, abs=1)
    page.mouse.move(box["x"] + 40 * scale, box["y"] + 50 * scale)
    page.mouse.down()
    page.mouse.move(box["x"] + 100 * scale, box["y"] + 50 * scale, steps=3)
    page.mouse.up()
    page.screenshot(path=tmp_path / "after.png")
    painted = _ids(page, tmp_path)
    rows, columns = np.indices(predicted.shape) + 0.5
    distance = np.hypot(rows - 50, columns - np.clip(columns, 40, 100))
    assert (painted[distance < 9.5] == table[len(SPACE) - 1]).all()
    np.testing.assert_array_equal(painted[distance > 11.5], predicted[distance > 11.5])

    page.keyboard.press("Control+z")
    np.testing.assert_array_equal(_ids(page, tmp_path), predicted)
    expect(page.locator("#brush-undo")).to_be_disabled()
    page.click("#brush-close")
    expect(canvas).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_narrow_and_dark(open_page: Callable[..., Page], street: Path) -> None:
    page = open_page(width=390, scheme="dark")
    _upload_image(page, street)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    tops = [page.locator(name).bounding_box()["y"] for name in ("#upload", ".picture >> nth=0", "#controls")]
    assert tops == sorted(tops), "the picture comes before the controls"
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(v) for v in background.removeprefix("rgb(").rstrip(")").split(",")) < 60
    wide = "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > 390)"
    assert page.evaluate(f"{wide}.map(e => e.outerHTML)") == [], "nothing is cut off at the side"


def test_ctrl_c_ends_it_while_a_video_is_at_work(
    browser: Browser, models: list[Path], tmp_path: Path
) -> None:
    with _serve([str(models[0])], tmp_path) as (url, _):
        page = browser.new_page()
        page.goto(url)
        page.wait_for_selector("body[data-ready]", timeout=WAIT)
        _upload(page, _clip(tmp_path / "long.mp4", 290))
        expect(page.get_by_text("/290 frames").first).to_be_visible(timeout=WAIT)
    page.close()
