"""The page's adaptation: choose a folder, start, watch, stop, reload, resume, compare, download, remove."""

from __future__ import annotations

import re
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import uvicorn
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from iccld.app.adaptations import Adaptations
from iccld.app.answers import load_models
from iccld.app.guard import Guard
from iccld.app.routes import Routes
from iccld.app.server import SERVER_SETTINGS, bind
from iccld.app.service import Service
from iccld.app.sessions import Sessions
from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD

WAIT = 90_000
_SHORT = (
    "--data.source-count 4 --data.source-size 64 96 --data.target-size 64 96 --data.crop 64 64 --data.batch-size 1 "
    "--data.num-workers 0 --device cpu --threads 1 --precision fp32"
)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of an app that adapts an untrained model with a few steps."""
    root = tmp_path_factory.mktemp("app")
    torch.manual_seed(0)
    ICCLD(CAMVID11, width=16, latent_channels=4, input_height=48).save_pretrained(root / "tiny")
    models = load_models([str(root / "tiny")], device="cpu", threads=1)
    (root / "sessions").mkdir()
    service = Service(models, Sessions(root / "sessions", 2**20, max_disk_bytes=2**22))
    adaptations = Adaptations(root / "adapted", str(root / "tiny"), 100, 2**20, 2**22, _SHORT.split())
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        routes = Routes(service, adaptations)
        server = uvicorn.Server(uvicorn.Config(Guard(routes.app, port=port), **SERVER_SETTINGS))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join(60)
        routes.is_idle_within(60)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with two images of the target, a damaged one and a text."""
    folder = tmp_path / "fleet"
    (folder / "monday").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 255, (64, 96, 3), np.uint8)).save(folder / "monday" / name)
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("not sent")
    return folder


def _open(browser: Browser, url: str) -> Page:
    page = browser.new_context(viewport={"width": 390, "height": 900}, accept_downloads=True).new_page()
    page.set_default_timeout(WAIT)
    page.goto(url)
    page.wait_for_selector("body[data-ready]")
    return page


def test_a_folder_becomes_an_adapted_model(
    browser: Browser, address: str, photos: Path, tmp_path: Path
) -> None:
    page = _open(browser, address)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: dialog.accept())
    status = page.locator("#adapt-status")
    expect(page.locator("#adapt")).to_contain_text("Trains a copy of tiny")
    page.set_input_files("#adapt-input input", photos)
    expect(status).to_have_text("2 images are here.", timeout=WAIT)
    expect(page.locator("#adapt-notice")).to_contain_text(
        "1 of 3 images were not taken. The first reason: broken.png"
    )
    assert page.input_value("#adapt-steps input") == "100"

    page.click("#adapt-start")
    expect(page.locator("#adapt-frames img")).to_have_count(2, timeout=WAIT)
    expect(status).to_contain_text("Step ")
    page.click("#adapt-stop")
    expect(status).to_have_text(re.compile(r"Stopped\. \d+ of 100 steps are saved\."), timeout=WAIT)

    page.reload()
    page.wait_for_selector("body[data-ready]")
    expect(status).to_contain_text("of 100 steps are saved")
    page.click("#adapt-start")
    expect(status).to_contain_text("Finished after 100 steps on 2 images", timeout=WAIT)
    expect(page.locator("#adapt-frames img")).to_have_count(2, timeout=WAIT)
    expect(page.locator("#adapt-frames figcaption").last).to_have_text("after step 100")
    assert page.evaluate("document.documentElement.scrollWidth") == 390

    page.set_input_files("#upload input", photos / "monday" / "a.png")
    expect(page.locator("#download")).to_be_visible(timeout=WAIT)
    page.click("#adapt-compare")
    expect(page.locator("#agreement")).to_contain_text("The two models agree", timeout=WAIT)
    expect(page.locator("#panes figcaption span")).to_have_text(["tiny", "tiny, adapted"])
    expect(page.locator("#panes img")).to_have_count(2)

    with page.expect_download() as download:
        page.click("#adapt-zip")
    with zipfile.ZipFile(download.value.path()) as archive:
        archive.extractall(tmp_path / "zip")
    (folder,) = (tmp_path / "zip").iterdir()
    assert ICCLD.from_pretrained(folder).label_space.names == CAMVID11.names
    with page.expect_download(timeout=WAIT) as download:
        page.click("#adapt-onnx")
    session = onnxruntime.InferenceSession(download.value.path(), providers=["CPUExecutionProvider"])
    assert "labels" in [output.name for output in session.get_outputs()]

    page.click("#adapt-remove")
    expect(page.locator("#adapt-input")).to_be_visible(timeout=WAIT)
    expect(page.locator("#adapt-frames")).to_be_hidden()
    assert not errors
    page.context.close()


def test_a_dropped_folder_and_a_folder_without_images(browser: Browser, address: str, tmp_path: Path) -> None:
    page = _open(browser, address)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("text")
    page.set_input_files("#adapt-input input", tmp_path / "empty")
    expect(page.locator("#adapt-notice")).to_contain_text("contains no PNG, JPEG")
    expect(page.locator("#adapt-input")).to_be_visible()
    page.evaluate(
        """async () => {
            const canvas = Object.assign(document.createElement("canvas"), {width: 40, height: 40});
            canvas.getContext("2d").fillRect(0, 0, 9, 9);
            const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
            const transfer = new DataTransfer();
            for (const name of ["one.png", "two.png"]) transfer.items.add(new File([blob], name, {type: "image/png"}));
            document.querySelector("#adapt-input .drop").dispatchEvent(
                new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer: transfer}));
        }"""
    )
    expect(page.locator("#adapt-status")).to_have_text("2 images are here.", timeout=WAIT)
    expect(page.locator("#chosen")).to_be_hidden()
    page.context.close()
