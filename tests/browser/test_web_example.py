"""``examples/web`` in a headless Chromium gives the labels of ONNX Runtime in Python."""

from __future__ import annotations

import functools
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from playwright.sync_api import Browser

from iccld.data.image_files import read_image
from iccld.data.street_scenes import StreetScenes
from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / ".venv" / "web" / "node_modules" / "onnxruntime-web" / "dist"
FILES = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")

pytestmark = pytest.mark.skipif(
    not RUNTIME.is_dir(), reason="no onnxruntime-web; make test-browser installs it with npm"
)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Address and folder of the example, with a small model, its classes and an image."""
    folder = tmp_path_factory.mktemp("site")
    for path in [*(ROOT / "examples" / "web").iterdir(), *(RUNTIME / name for name in FILES)]:
        (folder / path.name).write_bytes(path.read_bytes())
    torch.manual_seed(0)
    model = ICCLD(CAMVID11, width=16, latent_channels=4)
    for weight in model.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.05)
    model.save_pretrained(folder / "model")
    # In a process of its own, since the type checks of the tests do not accept symbolic sizes.
    words = ["export", folder / "model", "--format", "onnx", "--out", folder / "model.onnx"]
    subprocess.run([sys.executable, "-m", "iccld", *words], check=True)
    classes = [{"id": i, "name": c.name, "color": c.color} for i, c in enumerate(CAMVID11.classes)]
    (folder / "classes.json").write_text(json.dumps(classes))
    image = StreetScenes("camera", count=1, height=96, width=160, seed=5).image(0)
    assert cv2.imwrite(str(folder / "street.png"), image[..., ::-1])
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/index.html", folder
        server.shutdown()


def expected_labels(folder: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    image = read_image(folder / "street.png")
    (labels,) = session.run(["labels"], {"images": image[None]})
    return np.asarray(labels[0])


def test_the_functions_give_the_labels_of_python(site: tuple[str, Path], browser: Browser) -> None:
    address, folder = site
    with browser.new_page() as page:
        page.goto(address)
        found = page.evaluate(
            """async () => {
                const { load, pixels, segment } = await import("./segment.js");
                const session = await load("model.onnx");
                const file = await (await fetch("street.png")).blob();
                const { labels, width, height, uncertainty } = await segment(session, await pixels(file));
                return { labels: [...labels], width, height, uncertainty: [...uncertainty] };
            }"""
        )
    expected = expected_labels(folder)
    assert (found["height"], found["width"]) == expected.shape
    assert np.mean(np.array(found["labels"]).reshape(expected.shape) == expected) >= 0.999
    assert 0 < np.mean(found["uncertainty"]) < np.log(len(CAMVID11))


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_shows_the_classes(
    site: tuple[str, Path], browser: Browser, width: int, tmp_path: Path
) -> None:
    address, folder = site
    with browser.new_page(viewport={"width": width, "height": 800}) as page:
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        for name, file in (("model", "model.onnx"), ("classes", "classes.json"), ("image", "street.png")):
            page.set_input_files(f"#{name}", folder / file)
        page.wait_for_function("document.querySelector('#status').textContent.startsWith('160×96 pixels in')")
        shown = page.locator("#legend li").all_inner_texts()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.screenshot(path=tmp_path / "page.png")
        assert errors == []
    present = np.unique(expected_labels(folder))
    assert shown == [CAMVID11.names[label] for label in present]


def test_a_file_that_is_no_model_is_named(site: tuple[str, Path], browser: Browser) -> None:
    address, folder = site
    with browser.new_page() as page:
        page.goto(address)
        page.set_input_files("#model", folder / "street.png")
        page.wait_for_function("document.querySelector('#status').textContent.startsWith('street.png: ')")
