"""Start from a stored model of other classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from iccld.errors import InputError
from iccld.labels import CAMVID11, CITYSCAPES19, LabelClass, LabelSpace
from iccld.models.iccld import ICCLD
from iccld.models.warm_start import warm_start


def _model(space: LabelSpace, seed: int, **settings: int) -> ICCLD:
    torch.manual_seed(seed)
    model = ICCLD(space, **{"width": 16, "latent_channels": 4, **settings})
    with torch.no_grad():
        for parameter in model.parameters():  # no zeros, which would be equal in all models
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stored")
    _model(CITYSCAPES19, 0).save_pretrained(out)
    return out


def test_same_classes_give_the_same_weights(folder: Path) -> None:
    model, stored = _model(CITYSCAPES19, 1), ICCLD.from_pretrained(folder)
    assert warm_start(model, folder) == ()
    for name, weights in model.state_dict().items():
        assert torch.equal(weights, stored.state_dict()[name]), name


def test_classes_are_matched_by_name_then_by_train_id(folder: Path) -> None:
    own = LabelSpace(
        "own", (*CAMVID11.classes[:6], LabelClass("forklift", (1, 2, 3), ()), *CAMVID11.classes[6:])
    )
    model, stored, before = _model(own, 1), ICCLD.from_pretrained(folder), _model(own, 1)
    assert warm_start(model, folder) == ("forklift",)
    matches = {"road": "road", "car": "car", "sign": "traffic sign", "sky": "sky"}
    for name, known in matches.items():
        index, theirs = own.names.index(name), CITYSCAPES19.names.index(known)
        assert torch.equal(model.label_decoder.head.weight[index], stored.label_decoder.head.weight[theirs])
        assert torch.equal(model.label_decoder.head.bias[index], stored.label_decoder.head.bias[theirs])
        assert torch.equal(
            model.label_encoder.codes.weight[:, index], stored.label_encoder.codes.weight[:, theirs]
        )
        assert torch.equal(
            model.label_encoder.stem.weight[:, index], stored.label_encoder.stem.weight[:, theirs]
        )
    new = own.names.index("forklift")
    assert torch.equal(model.label_decoder.head.weight[new], before.label_decoder.head.weight[new])
    assert torch.equal(model.image_coder.stem.weight, stored.image_coder.stem.weight)


def test_the_stored_model_answers_alike_on_common_classes(folder: Path) -> None:
    """A model of a part of the classes ranks them as the stored model does."""
    some = LabelSpace("some", CITYSCAPES19.classes[:7])
    model, stored = _model(some, 1).eval(), ICCLD.from_pretrained(folder)
    warm_start(model, folder)
    torch.manual_seed(3)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        features = [m.encode(images) for m in (model, stored)]
        latent = torch.randn(1, 4, 8, 8)
        own, theirs = (m.decode(latent, f) for m, f in zip((model, stored), features, strict=True))
    torch.testing.assert_close(own, theirs[:, :7])


@pytest.mark.parametrize(
    ("space", "settings", "message"),
    [
        (CAMVID11, {"width": 24}, "its --model.width is 16, not 24; give --model.width 16"),
        (LabelSpace("own", (LabelClass("forklift", (1, 2, 3), ()),)), {}, "none of its classes"),
    ],
)
def test_models_that_do_not_fit(
    folder: Path, space: LabelSpace, settings: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        warm_start(_model(space, 1, **settings), folder)
