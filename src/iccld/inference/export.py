"""Export: writes a model as one graph that maps uint8 images to labels, probabilities and uncertainty.

The graph computes the same as ``iccld.models.iccld.ICCLD.predict``, including scaling and padding, except for the
noise. The noise is stored in the graph, so that the same image always has the same prediction. All images of a batch
have the same noise. If an image is larger than 512×1024 pixels after scaling, the noise is repeated.
"""

from __future__ import annotations

import importlib
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from iccld import __version__
from iccld.documents import typed
from iccld.errors import InputError, how_to_install
from iccld.files import AnyPath, write_atomic
from iccld.inference.exported import SMALLEST, SUFFIXES, Format, Precision
from iccld.inference.graph_files import FACTS
from iccld.inference.precision import Image, mark_precise, quantize
from iccld.inference.runtimes import import_nncf, import_openvino
from iccld.models.iccld import ICCLD
from iccld.models.prediction import average_draws, entropy, to_pixels
from iccld.models.settings import PredictSettings
from iccld.resizing import scaled_width

_OUTPUTS = ("labels", "probabilities", "uncertainty", "mutual_information")
_CELL = 32
_NOISE_CELLS = (64, 128)


class ExportGraph(nn.Module):
    """The network in the form that is exported, with fixed numbers of steps and draws.

    The model must be in evaluation mode on the CPU. Images are scaled to the height ``input_height``, unless it is 0.
    """

    noise: Tensor

    def __init__(self, model: ICCLD, *, steps: int, draws: int, input_height: int) -> None:
        super().__init__()
        self.model, self.steps, self.draws, self.input_height = model, steps, draws, input_height
        size = (draws, model.spec.latent_channels, *_NOISE_CELLS)
        self.register_buffer("noise", torch.randn(size, generator=torch.Generator().manual_seed(0)))

    def forward(self, images: UInt8[Tensor, "b h w 3"]) -> tuple[Tensor, ...]:
        """Segments RGB images with values from 0 to 255 and at least 33×33 pixels.

        Returns labels (uint8, b h w), probabilities (b k h w), uncertainty in nats (b h w) and, for several draws,
        mutual information in nats (b h w), as in ``iccld.models.prediction.Prediction``.
        """
        size = height, width = images.shape[1], images.shape[2]
        if self.input_height:
            size = self.input_height, scaled_width(height, width, self.input_height)
        padded = [_CELL * ((side + _CELL - 1) // _CELL) for side in size]
        pixels = images.permute(0, 3, 1, 2)
        if self.input_height:
            pixels = _scale_axis(pixels.float(), 2, height, size[0], padded[0])
            pixels = _scale_axis(pixels, 3, width, size[1], padded[1])
        else:
            for axis, (side, extent) in enumerate(zip(size, padded, strict=True), start=2):
                pixels = pixels.index_select(axis, torch.arange(extent).clamp(max=side - 1))
            pixels = pixels.float()
        pixels = pixels * (1 / 255)
        state = self.model.encode_padded(pixels, size)
        noise = self._noise_of(images, state.latent_size)
        probabilities, disagreement = average_draws(self.model, state, noise, self.steps, self.draws)
        answer = (height, width) if self.input_height else None
        stride = self.model.label_decoder.out_stride
        probabilities, disagreement = to_pixels((probabilities, disagreement), stride, size, answer)
        labels = probabilities.max(dim=1).indices.to(torch.uint8)
        doubts = entropy(probabilities), disagreement[:, 0]
        return (labels, probabilities, *doubts)[: 3 + (self.draws > 1)]

    def _noise_of(self, images: Tensor, cells: tuple[int, int]) -> Float[Tensor, "n d h2 w2"]:
        """Returns the noise of all images as one batch, in which the draws of one image are adjacent."""
        noise = self.noise
        for axis, (latent, stored) in enumerate(zip(cells, _NOISE_CELLS, strict=True), start=2):
            noise = noise.index_select(axis, torch.arange(latent) % stored)
        # In a graph with fixed sizes, OpenVINO (2026.4) computes constant parts only once. Later nodes overwrite the
        # result, so that constant noise would change from the second image on. This condition, which is always false,
        # makes the noise depend on the input.
        never = images[:, :1, :1, :1, None].float() > 255
        return torch.where(never, torch.zeros(()), noise[None]).flatten(0, 1)


def _scale_axis(pixels: Tensor, axis: int, extent: int, target: int, padded: int) -> Tensor:
    """Scales one axis with the filter of ``iccld.resizing.resize_images`` and repeats the last pixel as padding.

    The filter is built from gather and arithmetic nodes, because runtimes have different names for triangle filters,
    and OpenVINO does not support such filters in ONNX files. Some runtimes round the results of floating-point
    operations (MatMul, Divide, coordinate computations) to bf16, even if the file requests fp32. They do not round
    integer tensors. Therefore, indices and weights are computed with integers, whose values fit in 32 bits.
    """
    span = (extent - 1) // target + 1  # radius of the filter in pixels, rounded up
    # Distances are integers in units of 1 / (2 × ``target``) pixels.
    centers = ((2 * torch.arange(padded).clamp(max=target - 1) + 1) * extent - target)[:, None]
    places = (centers + 2 * target) // (2 * target) - 1 + (torch.arange(2 * span + 1) - span)
    weights = (2 * torch.sym_max(extent, target) - (2 * target * places - centers).abs()).clamp(min=0)
    weights = weights * ((places >= 0) & (places < extent))
    total = weights.sum(dim=1, keepdim=True)
    shares = torch.zeros_like(weights)
    for _ in range(3):  # long division, eight bits at a time
        weights = weights * 256
        digit = weights // total
        shares, weights = shares * 256 + digit, weights - digit * total
    taps = pixels.index_select(axis, places.clamp(0, extent - 1).flatten())
    taps = taps.unflatten(axis, (padded, 2 * span + 1))
    shares = (shares.float() * 2.0**-24).view(padded, 2 * span + 1, *[1] * (3 - axis))
    return (taps * shares).sum(dim=axis + 1)


def export_model(
    model: ICCLD,
    path: AnyPath,
    format: Format,
    *,
    steps: int = 1,
    draws: int = 1,
    input_height: int | None = None,
    precision: Precision = "fp32",
    calibration: Sequence[Image] = (),
) -> Path:
    """Writes a model as one graph with dynamic batch size and image size, and returns ``path``.

    The model must be on the CPU. For OpenVINO, the weights are written to a second file with the extension ``.bin``.
    The numbers of sampling steps K and noise draws N are fixed in the graph. Images are scaled to a height of
    ``input_height`` pixels. ``None`` means the height in the model's settings. 0 means no scaling. In a bf16 graph,
    scaling, normalization, softmax and the first layers are still computed in fp32. Only OpenVINO supports bf16,
    because ONNX Runtime has no bf16 convolutions on CPUs. In an int8 graph, convolutions and matrix products use 8-bit
    integers, except in the first layers (see ``quantize``). Only OpenVINO supports int8. ``calibration`` contains RGB
    images (h w 3, uint8) like those that the graph will segment. They are required for int8.

    Raises ``InputError`` if a package is missing, the format does not allow the extension or precision, a setting is
    out of range, the backbone cannot be traced, or the file cannot be written.
    """
    path = Path(path)
    typed(Format, format, "format")
    typed(Precision, precision, "precision")
    height = model.spec.input_height if input_height is None else input_height
    PredictSettings(steps=steps, draws=draws, input_height=height)
    if path.suffix != SUFFIXES[format]:
        raise InputError(f"{path}: {format} files end with {SUFFIXES[format]}; choose such a name")
    if precision != "fp32" and format == "onnx":
        raise InputError(
            f"{precision} is slow or inexact in ONNX Runtime on CPUs; give fp32, or export to openvino"
        )
    if (precision == "int8") != bool(calibration):
        raise InputError("calibration images belong to the precision int8; give both or neither")
    if 0 < height < SMALLEST:
        raise InputError(f"input height is {height}; give 0 for the images' own, or {SMALLEST} or more")
    try:
        for package in ("onnx", "onnxscript"):
            importlib.import_module(package)
        if format == "openvino":
            import_openvino()
        if precision == "int8":
            import_nncf()
    except ImportError as error:
        extra = "int8" if precision == "int8" else format
        needs = f"{format} export in {precision} needs the package {error.name}"
        raise InputError(f"{needs}; {how_to_install(extra)}") from error
    fixed = {"steps": steps, "draws": draws, "input_height": height}
    facts: dict[str, Any] = {"format": "iccld-export", "iccld": __version__}
    facts |= {"label_space": model.label_space.to_dict(), "backbone": model.spec.backbone}
    facts |= {**fixed, "precision": precision}
    converted = _convert(ExportGraph(model.float().eval(), **fixed).eval(), facts)
    if format == "onnx":
        return write_atomic(path, converted.save)
    return _save_openvino(converted, facts, path, calibration)


def _convert(graph: ExportGraph, facts: dict[str, Any]) -> torch.onnx.ONNXProgram:
    """Converts a graph to ONNX with dynamic batch size, height and width."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # hides warnings about future exporter versions and unused packages
    names: dict[str, Any] = {"input_names": ["images"], "output_names": _OUTPUTS[: 3 + (graph.draws > 1)]}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            converted = torch.onnx.export(_trace(graph), (), dynamo=True, verbose=False, **names)
    except Exception as error:  # tracers raise many types of errors; the remedy is the same for all
        problem = f"cannot be exported for all sizes ({' '.join(str(error).split())[:300]})"
        remedy = "choose another backbone for export"
        raise InputError(f"backbone {facts['backbone']}: {problem}; {remedy}") from error
    finally:
        logger.setLevel(level)
    assert converted is not None
    converted.model.metadata_props.update(_metadata(facts))
    return converted


def _trace(graph: ExportGraph) -> ExportedProgram:
    # The tracer treats sizes that are equal in the example as always equal. Therefore, the sides of the example are
    # odd, are not multiples of a stride, and are changed by scaling and padding.
    example = torch.randint(0, 256, (2, 135, 303, 3), dtype=torch.uint8)
    sizes = (Dim("batch"), Dim("height", min=SMALLEST), Dim("width", min=SMALLEST))
    options: dict[str, Any] = {"strict": False, "prefer_deferred_runtime_asserts_over_guards": True}
    with torch.no_grad():
        shapes = (dict(enumerate(sizes)),)
        program = torch.export.export(graph, (example,), dynamic_shapes=shapes, **options)
    # The tracer adds assertions about the example, for instance that two sizes differ. A batch of one image would
    # violate such assertions. They are removed, because the graph does not rely on the asserted properties.
    nodes = program.graph_module.graph
    for node in list(nodes.nodes):
        if node.target is torch.ops.aten._assert_scalar.default:
            nodes.erase_node(node)
    nodes.eliminate_dead_code()
    program.graph_module.recompile()
    return program


def _save_openvino(
    converted: torch.onnx.ONNXProgram, facts: dict[str, Any], path: Path, calibration: Sequence[Image] = ()
) -> Path:
    openvino = import_openvino()
    # OpenVINO converts the ONNX file instead of the traced program, because the ONNX file has simpler expressions for
    # sizes.
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "model.xml"
        converted.save(whole.with_suffix(".onnx"))
        graph = openvino.convert_model(whole.with_suffix(".onnx"))
        if facts["precision"] == "int8":
            graph = quantize(graph, calibration)
        else:
            mark_precise(graph, facts["precision"])
        for key, value in _metadata(facts).items():
            graph.set_rt_info(value, key)
        openvino.save_model(graph, whole, compress_to_fp16=False)
        # The weights are replaced first, so that a new graph is never combined with old weights.
        for suffix in (".bin", ".xml"):
            write_atomic(path.with_suffix(suffix), partial(shutil.copyfile, whole.with_suffix(suffix)))
    return path


def _metadata(facts: dict[str, Any]) -> dict[str, str]:
    """Returns the metadata of an exported file as JSON texts: all ``facts``, the class names, and the palette."""
    classes = facts["label_space"]["classes"]
    lists = {"classes": [c["name"] for c in classes], "palette": [c["color"] for c in classes]}
    return {name: json.dumps(value) for name, value in {FACTS: facts, **lists}.items()}
