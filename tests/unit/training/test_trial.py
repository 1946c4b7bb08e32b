from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric

from iccld.adaptation.iccld import Adaptation
from iccld.adaptation.losses import Adversary
from iccld.adaptation.method import SourceOnly
from iccld.adaptation.self_training import SelfTraining
from iccld.config import DataConfig, TrainConfig
from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD
from iccld.models.networks import LatentDiscriminator
from iccld.training.rehearsal import make_trial, rehearse
from iccld.training.update import Update


def _update(method: Any, discriminator: torch.nn.Module | None = None) -> Update:
    config = TrainConfig(steps=10, threads=1, data=DataConfig(crop=(64, 64), batch_size=2))
    model = ICCLD(CAMVID11, width=16, latent_channels=4)
    model.image_coder.add_module("norm", torch.nn.BatchNorm2d(3))
    model.image_coder.register_forward_pre_hook(lambda module, args: (module.norm(args[0]),))
    fabric = Fabric(accelerator="cpu", devices=1)
    return Update(config, fabric=fabric, model=model, discriminator=discriminator, method=method)


def _state(update: Update) -> dict[str, torch.Tensor]:
    networks = {"model": update.model, "teacher": update.teacher, "discriminator": update.discriminator}
    return {
        f"{name}/{key}": value.clone()
        for name, network in networks.items()
        if network is not None
        for key, value in network.state_dict().items()
    }


@pytest.mark.parametrize("adapts", [True, False])
def test_a_trial_leaves_no_trace(adapts: bool) -> None:
    torch.manual_seed(0)
    if adapts:
        method: Any = Adaptation(
            self_training=SelfTraining(start_step=5), adversary=Adversary(start_step=5), masked=True
        )
        update = _update(method, LatentDiscriminator(4))
    else:
        update = _update(SourceOnly())
    before, random = _state(update), torch.get_rng_state()
    trial = make_trial(update)
    assert trial(0) > 0
    assert trial(9) > 0
    assert torch.equal(torch.get_rng_state(), random)
    after = _state(update)
    assert any("running_mean" in name for name in before)
    assert not [name for name, value in before.items() if not torch.equal(value, after[name])]
    assert all(parameter.grad is None for parameter in update.model.parameters())
    assert not update.optimizer.state


def test_a_rehearsal_tells_what_late_steps_cost(tmp_path: Path) -> None:
    torch.manual_seed(0)
    update = _update(Adaptation(self_training=SelfTraining(start_step=4), masked=True, adversary=None))
    before = copy.deepcopy(_state(update))
    rehearsal = rehearse(update, step=0, out=tmp_path, evaluate=None)
    assert rehearsal.threads == "1 (--threads)"
    assert rehearsal.costs.change == 4
    assert rehearsal.costs.late > rehearsal.costs.early > 0
    assert rehearsal.costs.evaluation == 0, "a short run is not worth its trial"
    after = _state(update)
    assert not [name for name, value in before.items() if not torch.equal(value, after[name])]
