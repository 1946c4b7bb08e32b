"""ICCLD models in ``transformers``: ``import iccld.hf`` registers configuration, model and image processor.

``AutoModelForSemanticSegmentation.from_pretrained(folder)`` and ``pipeline("image-segmentation", folder)`` then work
for every folder or hub id that ``ICCLD.save_pretrained`` or a training run wrote. ``trust_remote_code`` is not needed,
because no code is loaded from the folder or the hub.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForSemanticSegmentation,
    BatchFeature,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.image_processing_utils import BaseImageProcessor
from transformers.modeling_outputs import SemanticSegmenterOutput
from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES
from transformers.utils.generic import ModelOutput

from iccld.labels import LabelSpace
from iccld.models.iccld import ICCLD
from iccld.models.images import Images, to_batch
from iccld.models.settings import PredictSettings
from iccld.models.storage import find_model, read_config


class ICCLDConfig(PreTrainedConfig):
    """Configuration of a model: the content of its ``config.json``, and the class names as ``id2label``."""

    model_type = "iccld"

    def __init__(
        self,
        label_space: Mapping[str, Any] | None = None,
        model: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if label_space is not None and "id2label" not in kwargs:
            names = LabelSpace.from_dict(label_space).names
            kwargs["id2label"] = dict(enumerate(names))
            kwargs["label2id"] = {name: index for index, name in enumerate(names)}
        self.label_space, self.model = label_space, model
        super().__init__(**kwargs)


class ICCLDForSemanticSegmentation(PreTrainedModel):
    """Model for inference with ``transformers``. Training is the task of ``iccld train``.

    Attributes:
        network: The ICCLD model.
    """

    config_class = ICCLDConfig
    main_input_name = "pixel_values"

    def __init__(self, config: ICCLDConfig, network: ICCLD | None = None) -> None:
        super().__init__(config)
        self.network = network or ICCLD(LabelSpace.from_dict(config.label_space), **(config.model or {}))

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, source: str | os.PathLike[str], *_: Any, **kwargs: Any
    ) -> ICCLDForSemanticSegmentation:
        """Loads a model from a folder or the hub with ``ICCLD.from_pretrained``, which checks the files first.

        Args:
            source: Folder that ``ICCLD.save_pretrained`` wrote, or hub id.
            kwargs: ``revision`` (branch, tag or commit) and ``device_map`` (a single device). Other arguments of
                ``transformers`` have no effect. Weights stay in fp32. Predictions use bf16 on devices with fast bf16.

        Raises:
            InputError: The model cannot be read.
        """
        revision = kwargs.get("revision")
        name = f"{source}@{revision}" if revision and not os.path.isdir(source) else str(source)
        stored = read_config(find_model(name))
        model = cls(ICCLDConfig(**stored), ICCLD.from_pretrained(name)).eval()
        device = kwargs.get("device_map")
        return model.to(device) if isinstance(device, str | torch.device) and device != "auto" else model

    def save_pretrained(self, save_directory: str | os.PathLike[str], **_: Any) -> None:  # type: ignore[override]
        """Writes the files of the model as ``ICCLD.save_pretrained`` does."""
        self.network.save_pretrained(str(save_directory))

    def forward(
        self,
        pixel_values: Float[Tensor, "b 3 h w"],
        steps: int | None = None,
        draws: int | None = None,
        **_: Any,
    ) -> SemanticSegmenterOutput:
        """Segments images as ``ICCLD.predict`` does.

        Args:
            pixel_values: RGB images in [0, 1].
            steps: Number K of sampling steps. ``None`` means 1.
            draws: Number N of noise draws whose probabilities are averaged. ``None`` means 1.

        Returns:
            Output whose ``logits`` (b k h w) are logarithms of the class probabilities, at the size of the images.
        """
        settings = PredictSettings(steps=steps, draws=draws)
        maps = self.network._predict(to_batch(pixel_values)[0], settings)
        logits = torch.from_numpy(maps.probabilities).clamp_min(1e-30).log().to(pixel_values.device)
        return SemanticSegmenterOutput(logits=logits)


class ICCLDImageProcessor(BaseImageProcessor):
    """Converts images to ``pixel_values`` in [0, 1] without resizing. The model itself resizes the images."""

    model_input_names = ["pixel_values"]  # noqa: RUF012 - the base class declares an instance variable

    def preprocess(self, images: Images, return_tensors: str = "pt", **_: Any) -> BatchFeature:
        """Converts one image or several images of equal size.

        Args:
            images: Arrays, tensors or Pillow images.
            return_tensors: Type of the arrays: ``pt`` (torch) or ``np`` (numpy).

        Raises:
            InputError: An image has a wrong shape, type or range.
        """
        return BatchFeature({"pixel_values": to_batch(images)[0]}, tensor_type=return_tensors)

    def __call__(self, images: Images, *_: Any, **kwargs: Any) -> BatchFeature:  # type: ignore[override]
        """Calls ``preprocess``."""
        return self.preprocess(images, **kwargs)

    def post_process_semantic_segmentation(
        self, outputs: ModelOutput, target_sizes: list[tuple[int, int]] | None = None
    ) -> list[Int[Tensor, "h w"]]:
        """Returns the label map of each image. The labels are the class indices of ``id2label``.

        Args:
            outputs: Output of the model.
            target_sizes: Height and width of each label map. ``None`` keeps the size of the logits.
        """
        logits: Tensor = outputs["logits"]
        maps = []
        for index, image in enumerate(logits):
            size = tuple(map(int, target_sizes[index])) if target_sizes is not None else image.shape[-2:]
            if size != tuple(image.shape[-2:]):
                image = torch.nn.functional.interpolate(
                    image[None], size=size, mode="bilinear", align_corners=False
                )[0]
            maps.append(image.argmax(dim=0))
        return maps


AutoConfig.register("iccld", ICCLDConfig, exist_ok=True)
AutoModelForSemanticSegmentation.register(ICCLDConfig, ICCLDForSemanticSegmentation, exist_ok=True)
AutoImageProcessor.register(ICCLDConfig, image_processor_classes={"pil": ICCLDImageProcessor}, exist_ok=True)
# ``pipeline`` warns about models that are missing in this table.
MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES["iccld"] = ICCLDForSemanticSegmentation.__name__
