from __future__ import annotations

from collections.abc import Callable

from iccld.app.answers import AppModel
from iccld.app.service import Clip, agreement_text, clip_facts, page_facts
from iccld.labels import CAMVID11


def test_cut_clips_say_so(make_model: Callable[..., AppModel]) -> None:
    whole, cut = (clip_facts(make_model(), Clip(300, c, (20, 30), 0.1234), (1, 2)) for c in (False, True))
    assert whole == "mine: 300 frames, 123 ms each on cpu for 30×20 pixels, K\u00a0=\u00a01, N\u00a0=\u00a02"
    assert "only its first 300 frames are taken" in cut


def test_agreement() -> None:
    assert "93.4 %" in agreement_text(0.9342)
    assert "no class in common" in agreement_text(None)


def test_the_page_before_the_first_upload(make_model: Callable[..., AppModel]) -> None:
    facts = page_facts([make_model(), make_model(CAMVID11, "other")], 5 * 2**20)
    palettes = [model.pop("palette") for model in facts["models"]]
    assert facts["models"] == [{"name": "mine", "classes": 19}, {"name": "other", "classes": 11}]
    assert palettes[0][18] == {"id": 18, "name": "bicycle", "color": [119, 11, 32]}
    assert [entry["name"] for entry in palettes[1]] == list(CAMVID11.names)
    assert "5 MiB at most" in facts["hint"]
    assert facts["steps"] == {"value": 1, "max": 8, "free": True}
    assert not any(entry["occurs"] for entry in facts["legend"])
