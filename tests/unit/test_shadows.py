"""Cast shadows: how much they darken, and where."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from iccld.shadows import cast_shadows


@given(
    st.integers(0, 2**31), st.integers(8, 80), st.integers(8, 80), st.floats(0.2, 1.0), st.floats(0.1, 1.0)
)
@settings(deadline=None, max_examples=40)
def test_shadows_take_light_from_the_drawn_share_of_an_image(
    seed: int, height: int, width: int, darkest: float, largest: float
) -> None:
    torch.manual_seed(seed)
    light = cast_shadows(torch.ones(2, 3, height, width), 1.0, darkest=darkest, largest=largest)
    assert light.max() <= 1
    assert light.min() >= 1 - darkest - 1e-6
    # Pixels in which more than half of a shadow's light is missing.
    missing = (1 - light[:, 0]).flatten(1)
    inside = (missing > missing.amax(dim=1, keepdim=True) / 2).float().mean(dim=1)
    edge = 3 / min(height, width)
    assert (inside >= 0.1 - edge).all()
    assert (inside <= largest + edge).all()


def test_a_shadow_darkens_red_more_than_blue_and_keeps_what_lies_outside() -> None:
    torch.manual_seed(0)
    images = torch.rand(4, 3, 48, 64)
    shaded = cast_shadows(images, 1.0)
    red, _, blue = (1 - shaded / images).unbind(dim=1)
    within = red > 0.1
    assert (red[within] > blue[within]).all()
    outside = (shaded == images).all(dim=1)
    assert 0.4 < outside.float().mean() < 0.9


def test_the_share_of_images_that_are_given_shadows() -> None:
    images = torch.full((400, 3, 8, 8), 0.5)
    torch.manual_seed(0)
    changed = (cast_shadows(images, 0.25) != images).flatten(1).any(dim=1)
    assert 70 < changed.sum() < 130
    assert torch.equal(cast_shadows(images, 0.0), images)


def test_shadows_do_not_depend_on_the_images_and_keep_their_type() -> None:
    torch.manual_seed(0)
    one = cast_shadows(torch.full((3, 3, 16, 16), 0.5, dtype=torch.bfloat16), 1.0)
    torch.manual_seed(0)
    other = cast_shadows(torch.full((3, 3, 16, 16), 1.0), 1.0)
    assert one.dtype == torch.bfloat16
    torch.testing.assert_close(one.float(), other / 2, atol=0.01, rtol=0)
