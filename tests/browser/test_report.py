"""The report in a browser: nothing fetched, nothing complained about, usable on a phone, in light and dark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser

from iccld.data.street_scenes import StreetScenes
from iccld.inference.evaluation import evaluate_model
from iccld.inference.review import Review
from iccld.labels import CITYSCAPES19, protocol_of
from iccld.models.iccld import ICCLD
from iccld.reporting.environment import describe_environment
from iccld.reporting.record import Subject, measured_record
from iccld.reporting.report import report_page

LONG = "a_very_long_file_name_without_any_place_to_break_it_" * 3


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of one run, and of two and three side by side, by an untrained model of 19 classes."""
    torch.manual_seed(0)
    model = ICCLD(CITYSCAPES19, width=16, latent_channels=4).eval()
    scenes = StreetScenes(look="camera", count=9, height=64, width=128, seed=3, label_space=CITYSCAPES19)
    protocol = protocol_of(CITYSCAPES19)
    review = Review(protocol)
    scores = evaluate_model(model, scenes, protocol, observe=review)
    environment = describe_environment(1, "cpu", "fp32") | {"command": f"iccld train demo --out {LONG}"}
    record = measured_record(
        model, scenes, scores, review, environment=environment, measured_on=f"{LONG}, val"
    )
    steps = [float(s) for s in range(0, 2000, 20)]
    table = {"step": steps, "val/miou": [float("nan")] * 99 + [12.0]}
    falling = (1000 / (100 + np.array(steps))).tolist()
    for key in ("loss", "loss_seg_source", "loss_denoising_source", "latent_distance"):
        table[f"train/{key}"] = falling
    for domain in ("source", "mixed", "target"):
        table[f"train/discriminator_accuracy_{domain}"] = [0.4] * 100
    facts = [("method", "iccld"), ("seed", "0"), ("measured on", LONG)]
    subjects = [Subject(name, facts, record, table, method="iccld") for name in ("one", LONG, "three")]
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    for name, count in (("one", 1), ("two", 2), ("several", 3)):
        found[name] = folder / f"{name}.html"
        found[name].write_text(report_page(subjects[:count]), encoding="utf-8")
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", ["one", "two", "several"])
def test_the_page_is_whole(
    browser: Browser, pages: dict[str, Path], kind: str, width: int, scheme: str
) -> None:
    path = pages[kind]
    assert path.stat().st_size < 5_000_000
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    images = page.evaluate("[...document.images].map(i => i.naturalWidth)")
    assert len(images) == {"one": 45, "two": 84, "several": 123}[kind]
    assert min(images) > 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    hidden = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
    if width == 390:
        assert page.evaluate(f"{hidden}.map(e => e.ariaLabel)") == [], "nothing has to be scrolled sideways"
    # Charts are drawn, and their words can be read: at least nine pixels high.
    heights = page.evaluate(
        "[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)"
    )
    assert heights
    assert min(heights) >= 9
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    unnamed = page.evaluate("[...document.querySelectorAll('img:not([alt]), svg:not([aria-label])')].length")
    assert unnamed == 0
    links = page.evaluate(
        "[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))"
    )
    assert links
    page.close()
