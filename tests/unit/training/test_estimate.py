from __future__ import annotations

import pytest
import torch

from iccld.labels import CAMVID11
from iccld.models.iccld import ICCLD
from iccld.training.rehearsal import _IN_FLIGHT, _PROCESS_OVERHEAD, estimate_step


def test_nothing_is_changed_and_demands_grow_with_the_batch() -> None:
    torch.manual_seed(0)
    model = ICCLD(CAMVID11, width=32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    small = estimate_step(model, batch_size=1, num_branches=1, crop=(64, 64))
    large = estimate_step(model, batch_size=4, num_branches=3, crop=(64, 96))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert small.num_parameters == large.num_parameters == sum(p.numel() for p in model.parameters())
    assert large.peak_bytes > small.peak_bytes > 5 * 4 * small.num_parameters


@pytest.mark.parametrize("batch_size", [1, 4])
def test_activations_are_those_that_autograd_keeps(batch_size: int) -> None:
    """Compares the estimate with the tensors that autograd saves in a real pass of this size."""
    torch.manual_seed(0)
    model = ICCLD(CAMVID11, width=32)
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        model(
            torch.rand(batch_size, 3, 64, 64),
            torch.zeros(batch_size, 64, 64, dtype=torch.int64),
            torch.ones(batch_size),
            torch.ones(batch_size, dtype=torch.bool),
        )
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    estimate = estimate_step(model, batch_size=batch_size, num_branches=1, crop=(64, 64))
    expected = _IN_FLIGHT * (sum(kept.values()) - weights)
    measured = estimate.peak_bytes - 5 * weights - _PROCESS_OVERHEAD
    assert measured == pytest.approx(expected, rel=0.15)
