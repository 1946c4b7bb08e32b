"""Result of segmenting one image: maps, pictures and annotations."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image as PillowImage

from iccld.data.image_files import write_png
from iccld.drawing import colorize, draw_legend, heat_map, overlay
from iccld.errors import InputError
from iccld.files import AnyPath
from iccld.labels import LabelSpace
from iccld.models.prediction import Prediction
from iccld.models.regions import Region, find_regions, to_coco, to_shapes

_LONGEST_SIDE = 640


@dataclass(frozen=True, repr=False, eq=False)
class Result(Prediction):
    """Segmentation of one image. The maps of ``Prediction`` have no batch axis here.

    Attributes:
        image: The image as 8-bit RGB.
        label_space: Classes and colors of the model.
        path: Path of the image file. ``None`` if the image was not given as a path.
    """

    image: UInt8[np.ndarray, "h w 3"]
    label_space: LabelSpace
    path: Path | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the indices in ``labels``."""
        return self.label_space.names

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...]:
        """RGB colors of the classes, each channel from 0 to 255."""
        return self.label_space.palette

    @cached_property
    def shares(self) -> dict[str, float]:
        """Fraction of pixels by class name, for the classes that occur. The largest fraction comes first."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.label_space)) / self.labels.size
        order = np.argsort(-counts, kind="stable")
        return {self.classes[i]: float(counts[i]) for i in order if counts[i]}

    def overlay(self, opacity: float = 0.5) -> UInt8[np.ndarray, "h w 3"]:
        """Blends the class colors over the image. ``opacity`` is the weight of the colors, from 0 to 1."""
        return overlay(self.image, self.labels, self.label_space, opacity=opacity)

    def plot(self) -> PillowImage.Image:
        """Draws the overlay, the uncertainty and a legend of the occurring classes side by side.

        Overlay and uncertainty are scaled down if their longer side has more than 640 pixels.
        """
        height, width = self.labels.shape
        scale = min(1.0, _LONGEST_SIDE / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        maps = [self.overlay(), heat_map(self.relative_uncertainty)]
        panels = [cv2.resize(m, size, interpolation=cv2.INTER_AREA) if scale < 1 else m for m in maps]
        found = tuple(c for c in self.label_space.classes if c.name in self.shares)
        panels.append(draw_legend(LabelSpace(self.label_space.name, found)))
        sheet = np.full((max(len(p) for p in panels), sum(p.shape[1] for p in panels), 3), 255, np.uint8)
        left = 0
        for panel in panels:
            sheet[: len(panel), left : left + panel.shape[1]] = panel
            left += panel.shape[1]
        return PillowImage.fromarray(sheet)

    def save(self, path: AnyPath, what: str = "overlay") -> Path:
        """Writes a picture as PNG, atomically, and returns its path.

        Args:
            path: Path of the file. Its extension must be ``.png``.
            what: ``overlay``, ``color`` (class colors), ``labels`` (class indices as gray values), ``uncertainty`` or
                ``plot``.

        Raises:
            InputError: The extension is not ``.png``, ``what`` is unknown, or the file cannot be written.
        """
        if Path(path).suffix.lower() != ".png":
            raise InputError(f"{path}: pictures are written as PNG; give a name that ends in .png")
        draw = {
            "overlay": self.overlay,
            "labels": lambda: self.labels,
            "color": lambda: colorize(self.labels, self.label_space),
            "uncertainty": lambda: heat_map(self.relative_uncertainty),
            "plot": lambda: np.asarray(self.plot()),
        }
        if what not in draw:
            raise InputError(f"unknown picture {what!r}; choose one of {', '.join(draw)}")
        return write_png(path, draw[what]())

    def polygons(self, min_area: int = 1) -> list[Region]:
        """Returns the connected regions of all classes as polygons, the largest first.

        Args:
            min_area: Smallest number of pixels of a region. Smaller regions are left out.
        """
        return find_regions(self.labels, self.probabilities, self.classes, min_area=min_area)

    def to_coco(self, min_area: int = 1) -> dict[str, Any]:
        """Returns the regions as a COCO data set of one image, as JSON values. ``polygons`` explains ``min_area``."""
        return to_coco(self.polygons(min_area), self.classes, self._size, self._file_name)

    def to_shapes(self, min_area: int = 1) -> dict[str, Any]:
        """Returns the regions in the JSON format of LabelMe. ``polygons`` explains ``min_area``."""
        return to_shapes(self.polygons(min_area), self._size, self._file_name)

    def to_dict(self) -> dict[str, Any]:
        """Returns path, size, class names, class fractions and mean uncertainty (in nats) as values for JSON."""
        height, width = self._size
        return {
            "path": None if self.path is None else str(self.path),
            "height": height,
            "width": width,
            "classes": list(self.classes),
            "shares": self.shares,
            "mean_uncertainty": float(self.uncertainty.mean()),
        }

    def __repr__(self) -> str:
        height, width = self._size
        shown = [f"{name} {100 * share:.0f} %" for name, share in list(self.shares.items())[:4]]
        more = len(self.shares) - len(shown)
        content = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
        name = f"{self.path.name}, " if self.path is not None else ""
        return f"Result({name}{width}×{height}: {content}; uncertainty {self.uncertainty.mean():.2f} nats)"

    def _repr_png_(self) -> bytes:
        """Shows the result as a picture in notebooks."""
        buffer = io.BytesIO()
        self.plot().save(buffer, "PNG")
        return buffer.getvalue()

    @property
    def _size(self) -> tuple[int, int]:
        return self.labels.shape[0], self.labels.shape[1]

    @property
    def _file_name(self) -> str:
        return "" if self.path is None else self.path.name
