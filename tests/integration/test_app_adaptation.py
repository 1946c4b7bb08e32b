"""An adaptation of the app, from images to a model, with the real training command."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import iccld
from iccld.app.adaptation import Start
from iccld.app.adaptations import Adaptations
from iccld.app.answers import load_models
from iccld.data.image_files import read_image
from iccld.errors import InputError
from iccld.labels import CAMVID11

_SHORT = (
    "--data.source-count 4 --data.source-size 64 96 --data.target-size 64 96 --data.crop 64 64 --data.batch-size 1 "
    "--data.num-workers 0 --device cpu --threads 1 --precision fp32"
)


def test_images_become_an_adapted_model(tiny_data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    stored = tmp_path / "stored"
    iccld.ICCLD(CAMVID11, width=16, latent_channels=4, input_height=48).save_pretrained(stored)
    (base,) = load_models([str(stored)], device="cpu", threads=1)
    every = Adaptations(tmp_path / "adapted", str(stored), 400, 2**20, 2**22, _SHORT.split())
    _, adaptation = every.begin()
    images = sorted((tiny_data / "target" / "train" / "images").iterdir())[:3]
    for image in images:
        with every.receive(adaptation, image.name) as (upload, write):
            write(image.read_bytes())
        every.check(adaptation, upload)
    assert len(adaptation.draw(base).answers) == 1, "there are no adapted weights yet"
    with pytest.raises(InputError, match="no adapted weights"):
        adaptation.model_like(base)
    every.start(adaptation, Start(2))
    process = adaptation.process
    assert process is not None
    assert process.wait(300) == 0, (adaptation.folder / "log.txt").read_text()

    finished = adaptation.describe()
    assert (finished["state"], finished["done"], finished["newest"]) == ("finished", 2, 2)
    trained = iccld.ICCLD.from_pretrained(adaptation.run)
    assert not torch.equal(
        trained.label_decoder.head.weight, base.segmenter.get_parameter("label_decoder.head.weight")
    )

    (adaptation.run / "model.safetensors").rename(tmp_path / "hidden")
    assert adaptation.state != "finished", "as during the training, when there are only checkpoints"
    assert adaptation.newest == 2
    on_the_way = adaptation.model_like(base)
    for name, weight in trained.state_dict().items():
        assert torch.equal(weight, on_the_way.segmenter.state_dict()[name]), name
    (tmp_path / "hidden").rename(adaptation.run / "model.safetensors")

    before, after = adaptation.draw(base).answers
    image = read_image(images[0])
    assert np.array_equal(after.labels, trained.predict(image, steps=1, draws=1).labels)
    assert np.array_equal(before.labels, base.segmenter.predict(image, steps=1, draws=1).labels)
    with zipfile.ZipFile(adaptation.pack()) as archive:
        archive.extractall(tmp_path / "downloaded")
    again = iccld.ICCLD.from_pretrained(tmp_path / "downloaded" / adaptation.folder.name)
    assert torch.equal(again.label_decoder.head.weight, trained.label_decoder.head.weight)
