"""Which image comes next: each once an epoch, or rare classes more often. The sample's number says it all."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64

from iccld.errors import InputError

# DAFormer counts an image for a class from 3000 pixels on, in GTA5's images of 1914×1052.
_MIN_SHARE = 3000 / (1914 * 1052)


@runtime_checkable
class Sampler(Protocol):
    """Chooses an image for a sample number."""

    def draw(self, rng: np.random.Generator, number: int = 0) -> tuple[int, int | None]:
        """Returns an image's index and the class that the crop should show, None for any.

        Args:
            rng: randomness that belongs to this sample alone.
            number: the sample's global number, from 0.
        """
        ...


class UniformSampler:
    """Every image once an epoch, in an order that each epoch shuffles anew.

    Args:
        n: the number of images.
        seed: decides the orders.
    """

    def __init__(self, n: int, seed: int) -> None:
        if n < 1:
            raise InputError("a data set without images cannot be trained on; add images")
        self.n = n
        self.seed = seed
        self._order: tuple[int, Int64[np.ndarray, " n"]] | None = None

    def draw(self, rng: np.random.Generator, number: int = 0) -> tuple[int, None]:
        """Returns the image at place ``number mod n`` of epoch ``number div n``; ``rng`` is not used."""
        epoch, place = divmod(number, self.n)
        if self._order is None or self._order[0] != epoch:
            source = np.random.SeedSequence(self.seed, spawn_key=(epoch,))
            self._order = (epoch, np.random.default_rng(source).permutation(self.n))
        return int(self._order[1][place]), None


class RareClassSampler:
    """Rare-class sampling: first a class, rare ones more often, then an image that shows it.

    With f_c the share of class c among all counted pixels, P(c) = exp((1 − f_c)/T) / Σ_c' exp((1 − f_c')/T)
    (Hoyer et al., DAFormer, CVPR 2022, eq. 10). Classes that no image has are never drawn.

    Args:
        counts: pixels of class k in image n.
        temperature: T; the smaller, the more the rarest classes are preferred.
        min_pixels: an image shows a class if it has at least so many of its pixels; a class that no image
            shows so well is taken from any image that has it. None asks for 0.15 % of an average image
            (DAFormer's 3000 pixels of a GTA5 image).

    Raises:
        InputError: no image has any labeled pixel.
    """

    def __init__(
        self, counts: Int64[np.ndarray, "n k"], temperature: float = 0.01, min_pixels: int | None = None
    ) -> None:
        assert temperature > 0, temperature
        total = counts.sum(axis=0)
        if total.sum() == 0:
            raise InputError(
                "no image has a labeled pixel (all are 255), so there are no rare classes; check them"
            )
        if min_pixels is None:
            min_pixels = max(1, round(_MIN_SHARE * float(counts.sum()) / len(counts)))
        self.classes: tuple[int, ...] = tuple(int(c) for c in np.flatnonzero(total))
        shares = total[list(self.classes)] / total.sum()
        logits = (1.0 - shares) / temperature
        weights = np.exp(logits - logits.max())
        self.probabilities: Float64[np.ndarray, " k"] = np.zeros(counts.shape[1])
        self.probabilities[list(self.classes)] = weights / weights.sum()
        self._images: dict[int, Int64[np.ndarray, " m"]] = {}
        for c in self.classes:
            shown = np.flatnonzero(counts[:, c] >= min_pixels)
            self._images[c] = shown if len(shown) else np.flatnonzero(counts[:, c])

    def images(self, label: int) -> tuple[int, ...]:
        """The indices of the images that are drawn for a class."""
        return tuple(int(i) for i in self._images.get(label, ()))

    def draw(self, rng: np.random.Generator, number: int = 0) -> tuple[int, int]:
        """Draws an image's index and the class it was chosen for; ``number`` is not used."""
        label = int(rng.choice(len(self.probabilities), p=self.probabilities))
        return int(rng.choice(self._images[label])), label
