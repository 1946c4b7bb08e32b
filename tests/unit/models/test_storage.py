from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from iccld.errors import InputError, RunFailedError
from iccld.labels import CAMVID11, LabelSpace
from iccld.models.iccld import ICCLD

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


@pytest.fixture
def saved(model: ICCLD, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def _refusal(source: str | Path) -> str:
    """Returns the error message of loading."""
    with pytest.raises(InputError) as caught:
        ICCLD.from_pretrained(source)
    message = str(caught.value)
    assert "\n" not in message
    assert str(source) in message
    return message


def _edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _assert_equal(one: ICCLD, other: ICCLD) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def test_round_trip_is_bitwise(model: ICCLD, saved: Path) -> None:
    loaded = ICCLD.from_pretrained(saved)
    _assert_equal(model, loaded)
    assert loaded.spec == model.spec
    assert loaded.label_space == model.label_space
    assert not loaded.training
    ours, theirs = model.predict(IMAGE, steps=2), loaded.predict(IMAGE, steps=2)
    np.testing.assert_array_equal(ours.probabilities, theirs.probabilities)


def test_models_stored_before_reencoding_existed_go_on_without_it(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    assert config["model"].pop("reencoding") is True
    assert config["model"].pop("light_steps") is False
    _edit_config(saved, model=config["model"])
    assert ICCLD.from_pretrained(saved).spec.reencoding is False


def test_folder_holds_weights_and_plain_facts(saved: Path) -> None:
    assert sorted(os.listdir(saved)) == ["config.json", "model.safetensors", "preprocessor_config.json"]
    config = json.loads((saved / "config.json").read_text())
    assert config["format"] == "iccld"
    assert [c["name"] for c in config["label_space"]["classes"]][3] == "tree house"
    assert len(config["label_space"]["classes"][3]["color"]) == 3


def test_every_setting_comes_back(tmp_path: Path) -> None:
    settings = {
        "backbone": "efficientnet_lite0", "latent_channels": 6, "width": 24, "context_links": False,
        "detail_links": False, "diffusion": False, "input_height": 96,
    }  # fmt: skip
    model = ICCLD(CAMVID11, **settings)  # type: ignore[arg-type]
    model.save_pretrained(tmp_path, extra={"training": {"steps": 5}})
    loaded = ICCLD.from_pretrained(str(tmp_path))
    _assert_equal(model, loaded)
    assert {name: getattr(loaded.spec, name) for name in settings} == settings
    assert json.loads((tmp_path / "config.json").read_text())["training"] == {"steps": 5}


def test_loading_leaves_the_random_state_of_no_importance(saved: Path) -> None:
    torch.manual_seed(1)
    first = ICCLD.from_pretrained(saved)
    torch.manual_seed(2)
    _assert_equal(first, ICCLD.from_pretrained(saved))


def test_channels_last_models_are_saved_too(model: ICCLD, tmp_path: Path) -> None:
    copy = ICCLD(model.label_space, width=32)
    copy.load_state_dict(model.state_dict())
    copy.to(memory_format=torch.channels_last).save_pretrained(tmp_path)
    _assert_equal(model, ICCLD.from_pretrained(tmp_path))


@pytest.mark.parametrize("keep", [0, 7, 0.5, 0.999])
def test_truncated_weights(saved: Path, keep: float) -> None:
    path = saved / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    assert re.search(r"model\.safetensors: truncated or not a safetensors file", _refusal(saved))


def test_weights_missing(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    assert "model.safetensors: no such file" in _refusal(saved)


def test_another_number_of_classes(saved: Path) -> None:
    _edit_config(saved, label_space=CAMVID11.to_dict())
    assert "has weights for 5 classes but config.json lists 11" in _refusal(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("lacks", r"lacks denoiser\.\S+ \(1 such\)"),
        ("unknown", r"has an unknown surplus"),
        ("shape", "another shape"),
    ],
)
def test_weights_that_do_not_fit(saved: Path, change: str, message: str) -> None:
    weights = load_file(saved / "model.safetensors")
    name = next(name for name in weights if name.startswith("denoiser."))
    if change == "lacks":
        del weights[name]
    elif change == "unknown":
        weights["surplus"] = torch.zeros(1)
    else:
        weights[name] = torch.zeros(1, 2, 3)
    save_file(weights, saved / "model.safetensors")
    assert re.search(message, _refusal(saved))


def test_no_configuration(saved: Path) -> None:
    (saved / "config.json").unlink()
    assert "holds no config.json" in _refusal(saved)


@pytest.mark.parametrize("text", ["", "{", "\xff\xfe", "[1, 2]", '{"model_type": "segformer"}', "null"])
def test_configuration_of_something_else(saved: Path, text: str) -> None:
    (saved / "config.json").write_bytes(text.encode("latin-1"))
    assert re.search("is not JSON|is not the configuration of an ICCLD model", _refusal(saved))


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"backbone": "compact", "attention": True}},
        {"model": None},
        {"label_space": {"name": "x"}},
        {"label_space": {"name": "x", "classes": [{"name": "road"}]}},
        {"label_space": {"name": "x", "classes": [{"name": "road", "color": [1, 2]}]}},
    ],
)
def test_incomplete_configuration(saved: Path, changes: dict[str, Any]) -> None:
    _edit_config(saved, **changes)
    assert "incomplete or of a newer version" in _refusal(saved)


def test_configuration_with_an_unknown_backbone(saved: Path) -> None:
    _edit_config(saved, model={"backbone": "mitb0"})
    with pytest.raises(InputError, match="did you mean 'mit_b0'"):
        ICCLD.from_pretrained(saved)


def test_no_such_folder(tmp_path: Path) -> None:
    assert "no such folder" in _refusal(tmp_path / "a" / "b")
    assert "no such folder" in _refusal("nowhere")
    file = tmp_path / "file"
    file.write_text("x")
    assert "is a file" in _refusal(file)


def test_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(repo_id: str, **arguments: object) -> str:
        raise ConnectionError("no route to host\nat all")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    message = _refusal("someone/streets")
    assert "no route to host" in message
    assert "check the path" in message


def test_hub(model: ICCLD, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None, list[str]]] = []

    def download(repo_id: str, *, revision: str | None, allow_patterns: list[str], **place: object) -> str:
        assert set(place.values()) == {None}
        asked.append((repo_id, revision, sorted(allow_patterns)))
        return str(saved)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    _assert_equal(model, ICCLD.from_pretrained("someone/streets"))
    _assert_equal(model, ICCLD.from_pretrained("someone/streets@v1"))
    files = ["config.json", "model.safetensors"]
    assert asked == [("someone/streets", None, files), ("someone/streets", "v1", files)]


def test_push_to_hub(model: ICCLD, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Api:
        def __init__(self, token: str | None) -> None:
            assert token == "secret"

        def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
            assert (repo_id, private, exist_ok) == ("me/streets", True, True)
            return "https://hub/me/streets"

        def upload_folder(self, *, repo_id: str, folder_path: str) -> None:
            assert repo_id == "me/streets"
            Path(folder_path).rename(tmp_path / "uploaded")
            Path(folder_path).mkdir()

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert model.push_to_hub("me/streets", private=True, token="secret") == "https://hub/me/streets"
    _assert_equal(model, ICCLD.from_pretrained(tmp_path / "uploaded"))


def test_full_disk_leaves_the_old_model(model: ICCLD, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (saved / "model.safetensors").read_bytes()

    def fsync(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(RunFailedError, match="disk is full"):
        ICCLD(model.label_space, width=16).save_pretrained(saved)
    assert (saved / "model.safetensors").read_bytes() == before
    assert sorted(os.listdir(saved)) == ["config.json", "model.safetensors", "preprocessor_config.json"]


def test_label_space_of_one_class(tmp_path: Path) -> None:
    model = ICCLD(LabelSpace.from_names("one", ["thing"]), width=16, latent_channels=4)
    model.save_pretrained(tmp_path)
    prediction = ICCLD.from_pretrained(tmp_path).predict(IMAGE)
    assert not prediction.labels.any()
    assert not prediction.uncertainty.any()


@pytest.mark.parametrize(
    "said",
    [
        "Unauthorized: Bearer hf_aBcDeFgHiJkLmNoPqRsT for url x",
        "bad header 'authorization: bearer plain-secret-1'",
        "https://me:plain-secret-1@hub.example/api failed",
        "GET https://hub.example/api?token=plain-secret-1&x=1 failed",
        "token of-the-environment is not valid",
    ],
)
def test_no_token_is_told(model: ICCLD, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    class Api:
        def __init__(self, token: str | None) -> None: ...

        def create_repo(self, repo_id: str, **more: object) -> str:
            raise RuntimeError(said)

    monkeypatch.setenv("HF_TOKEN", "of-the-environment")
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    with pytest.raises(InputError, match="nothing was uploaded") as caught:
        model.push_to_hub("me/streets", token="hf_aBcDeFgHiJkLmNoPqRsT")
    for secret in ("hf_aBc", "plain-secret", "of-the-environment"):
        assert secret not in str(caught.value)


def test_only_the_files_of_the_model_are_uploaded(
    saved: Path, model: ICCLD, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sent: list[str] = []

    class Api:
        def __init__(self, token: str | None) -> None: ...

        def create_repo(self, repo_id: str, **more: object) -> str:
            return "address"

        def upload_folder(self, *, repo_id: str, folder_path: str) -> None:
            sent.extend(str(path.relative_to(folder_path)) for path in Path(folder_path).rglob("*"))

    (saved / "secret.txt").write_text("x")
    monkeypatch.chdir(saved)
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    ICCLD.from_pretrained(saved).push_to_hub("me/streets")
    assert sorted(sent) == ["config.json", "model.safetensors", "preprocessor_config.json"]


def test_a_loaded_model_keeps_its_record(tmp_path: Path) -> None:
    """Saving a trained model again must not lose how it was trained."""
    torch.manual_seed(0)
    model = ICCLD(CAMVID11, width=16, latent_channels=4)
    model.save_pretrained(tmp_path / "one", extra={"training": {"steps": 5}})
    ICCLD.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    one, two = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("one", "two"))
    assert one == two
    assert two["training"] == {"steps": 5}
