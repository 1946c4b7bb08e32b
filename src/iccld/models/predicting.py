"""The method ``predict`` of models and of exported models."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from jaxtyping import Float
from torch import Tensor

from iccld.labels import LabelSpace
from iccld.models.images import to_array, to_batch, to_bytes
from iccld.models.prediction import Prediction
from iccld.models.result import Result
from iccld.models.settings import PredictSettings
from iccld.models.sources import is_batch, open_image, single_or_many


class Predicting:
    """Mixin with the method ``predict`` of models and of exported models."""

    label_space: LabelSpace

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the indices in label maps."""
        return self.label_space.names

    def predict(
        self,
        source: Any,
        *,
        steps: int | None = None,
        draws: int | None = None,
        seed: int = PredictSettings.seed,
        window: tuple[int, int] | None = None,
        overlap: float = PredictSettings.overlap,
        precision: str = PredictSettings.precision,
        input_height: int | None = None,
        stream: bool = False,
    ) -> Any:
        """Segments images of any size. The results have the size of the images.

        Args:
            source: One image or several images. One image is a path of a file, a Pillow image (rotated upright
                according to EXIF), an array of shape (h, w, 3) or (h, w), or a tensor of shape (3, h, w) or (1, h, w).
                Arrays and tensors are uint8 or float in [0, 1]. Several images are a list or an iterator of such
                images, a folder (with its subfolders), a glob pattern, or an array or tensor with a batch axis.
            steps: Number K of sampling steps. ``None`` means 1, or the number stored in an exported file.
            draws: Number N of noise draws whose probabilities are averaged. ``None`` means 1, or the number stored in
                an exported file.
            seed: Seed of the noise. The same seed gives the same result.
            window: Height and width of a sliding window in pixels of the scaled image. ``None`` processes the image as
                a whole.
            overlap: Minimum fraction of a window that neighboring windows share, in [0, 0.99].
            precision: ``bf16``, ``fp32`` or ``auto``. ``auto`` means bf16 on devices with fast bf16, otherwise fp32.
                For an exported file, ``auto`` means the precision of the file.
            input_height: Height in pixels to which images are scaled before segmentation. ``None`` uses the height
                stored with the model, 0 disables scaling.
            stream: Whether images are segmented one by one while the caller iterates over the results, so that memory
                does not grow with the number of images. A batch in one array or tensor is segmented at once.

        Returns:
            A ``Result`` for a single image. Several images give a list of results. With ``stream``, they give an
            iterator over the results instead of a list.

        Raises:
            InputError: A file cannot be read, an array has a wrong shape, dtype or range, a setting is out of range, an
                exported file does not support a setting, or there is not enough memory.
        """
        settings = PredictSettings(
            steps, draws, seed, window, overlap, None, input_height, cast(Any, precision)
        )
        if is_batch(source):
            results = self._predict_batch(source, settings)
            return iter(results) if stream else results
        images, is_single = single_or_many(source)
        found = (self._predict_one(image, settings) for image in images)
        if is_single and not stream:
            return next(found)
        return found if stream else list(found)

    def _predict_one(self, image: Any, settings: PredictSettings) -> Result:
        pixels, path = open_image(image)
        array = to_array(pixels)
        maps = self._predict(to_batch(array)[0], settings).of_image(0)
        return Result(**vars(maps), image=to_bytes(array), label_space=self.label_space, path=path)

    def _predict_batch(self, images: np.ndarray | Tensor, settings: PredictSettings) -> list[Result]:
        arrays = to_array(images)
        maps = self._predict(to_batch(arrays)[0], settings)
        return [
            Result(**vars(maps.of_image(index)), image=to_bytes(image), label_space=self.label_space)
            for index, image in enumerate(arrays)
        ]

    def _predict(self, batch: Float[Tensor, "b 3 h w"], settings: PredictSettings) -> Prediction:
        """Segments a batch of RGB images in [0, 1]."""
        raise NotImplementedError
