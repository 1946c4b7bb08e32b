"""A video that we write is played by a browser."""

from __future__ import annotations

import base64
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from iccld.inference.video_writer import writing_video

_PLAY = """async (source) => {
    const video = document.createElement("video");
    video.muted = true;
    video.src = source;
    document.body.append(video);
    await new Promise((done, fail) => {
        video.oncanplay = done;
        video.onerror = () => fail(new Error(video.error.message || "code " + video.error.code));
    });
    const presented = new Promise((done) => { video.requestVideoFrameCallback(done); });
    video.currentTime = 0.5;
    await presented;
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0);
    const pixel = context.getImageData(20, 20, 1, 1).data;
    return [video.videoWidth, video.videoHeight, video.duration, ...pixel.slice(0, 3)];
}"""


@pytest.mark.parametrize("size", [(64, 96), (63, 95)])
def test_a_browser_plays_our_videos(browser: Browser, tmp_path: Path, size: tuple[int, int]):
    color = (128, 64, 128)  # the color of roads
    picture = np.broadcast_to(np.array(color, np.uint8), (*size, 3)).copy()
    file = tmp_path / "clip.mp4"
    with writing_video(file, size, time_base=Fraction(1, 10), rate=Fraction(10)) as writer:
        for index in range(10):
            writer.add(picture, index, 1)
    page = browser.new_page()
    page.goto("about:blank")
    address = f"data:video/mp4;base64,{base64.b64encode(file.read_bytes()).decode()}"
    width, height, duration, *shown = page.evaluate(_PLAY, address)
    page.close()
    assert (width, height, duration) == (96, 64, pytest.approx(1))
    assert shown == pytest.approx(color, abs=4)
