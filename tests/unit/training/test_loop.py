from __future__ import annotations

from itertools import product

import torch

from iccld.training.loop import derive_seed


def test_seeds_differ_by_every_part_and_by_nothing_else() -> None:
    parts = list(product(range(3), range(20), range(3), range(4)))
    seeds = [derive_seed(*part) for part in parts]
    assert len(set(seeds)) == len(parts)
    assert seeds == [derive_seed(*part) for part in parts]
    assert derive_seed(1, 23) != derive_seed(12, 3)
    for seed in seeds[:50]:
        torch.manual_seed(seed)
        assert torch.initial_seed() == seed
