"""Export: a model with fixed numbers of steps and draws as one graph, from uint8 images to labels and uncertainty.

What the graph does is what ``iccld.models.iccld.ICCLD.predict`` does, scaling and padding included, but for the
noise: a graph has its own, the same for every image of a batch and repeated beyond 512×1024 pixels, so that an image
always gets the same answer.
"""

from __future__ import annotations

import importlib
import json
import logging
import shutil
import tempfile
import warnings
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
from iccld.inference.exported import FACTS, SMALLEST, SUFFIXES, Format, Precision
from iccld.inference.precise_nodes import mark_precise
from iccld.models.iccld import ICCLD
from iccld.models.prediction import average_draws, entropy, to_pixels
from iccld.models.settings import PredictSettings
from iccld.resizing import scaled_width

OUTPUTS = ("labels", "probabilities", "uncertainty", "mutual_information")

_CELL = 32
_NOISE_CELLS = (64, 128)


class ExportGraph(nn.Module):
    """Images → labels, probabilities, uncertainty and, of several draws, mutual information.

    The model is in evaluation mode on the CPU. Images are scaled to the input height, in pixels, unless it is 0.
    """

    noise: Tensor

    def __init__(self, model: ICCLD, *, steps: int, draws: int, input_height: int, seed: int = 0) -> None:
        super().__init__()
        self.model, self.steps, self.draws, self.input_height = model, steps, draws, input_height
        size = (draws, model.spec.latent_channels, *_NOISE_CELLS)
        self.register_buffer("noise", torch.randn(size, generator=torch.Generator().manual_seed(seed)))

    def forward(self, images: UInt8[Tensor, "b h w 3"]) -> tuple[Tensor, ...]:
        """Segments RGB images, 0 to 255, of any size from 33×33 pixels on.

        Returns:
            labels uint8 b h w, probabilities b k h w, uncertainty b h w and, of several draws, mutual information
            b h w, as ``iccld.models.prediction.Prediction`` has them.
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
        """The noise of every image, those of an image side by side."""
        noise = self.noise
        for axis, (latent, stored) in enumerate(zip(cells, _NOISE_CELLS, strict=True), start=2):
            noise = noise.index_select(axis, torch.arange(latent) % stored)
        # The condition never holds, and no optimizer can know. Of a graph with fixed sizes OpenVINO (2026.4) computes
        # once what depends on constants alone, and then adds to the result in place: from the second image on the
        # noise would not be the same.
        never = images[:, :1, :1, :1, None].float() > 255
        return torch.where(never, torch.zeros(()), noise[None]).flatten(0, 1)


def _scale_axis(pixels: Tensor, axis: int, extent: int, target: int, padded: int) -> Tensor:
    """Scales one axis as ``iccld.resizing.resize_images`` does, and repeats the last pixel up to a padded size.

    It gathers and adds, for runtimes know the triangle filter by other names or, as OpenVINO with ONNX files, not at
    all. Places and shares are found in whole numbers of less than 32 bits: runtimes that compute in bf16 leave those
    alone, while they round products of matrices, quotients and coordinates whatever a file says.
    """
    span = (extent - 1) // target + 1  # the reach of the filter, rounded up
    # Distances are in units of a pixel divided by twice the target.
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
) -> Path:
    """Writes a model as one graph for other runtimes; batch and image size stay free.

    Args:
        model: on the CPU.
        path: the file; OpenVINO writes its weights beside it, with the ending ``.bin``.
        format: ``onnx`` or ``openvino``.
        steps: K, fixed in the graph.
        draws: N, fixed in the graph.
        input_height: height in pixels that images are scaled to, 0 for none; the model's own if None.
        precision: what the network computes in, on every processor. With bf16, scaling, normalization, softmax and
            the first layers are fp32 all the same. ONNX Runtime has no bf16 on CPUs: ``openvino`` alone.

    Returns:
        The path.

    Raises:
        InputError: a package is missing, the file's ending or the precision does not fit the format, a setting is
            out of range, the backbone cannot be traced, or the file cannot be written.
    """
    path = Path(path)
    typed(Format, format, "format")
    typed(Precision, precision, "precision")
    height = model.spec.input_height if input_height is None else input_height
    PredictSettings(steps=steps, draws=draws, input_height=height)
    if path.suffix != SUFFIXES[format]:
        raise InputError(f"{path}: {format} files end with {SUFFIXES[format]}; choose such a name")
    if precision == "bf16" and format == "onnx":
        raise InputError("ONNX Runtime has no convolutions in bf16 on CPUs; give fp32, or export to openvino")
    if 0 < height < SMALLEST:
        raise InputError(f"input height is {height}; give 0 for the images' own, or {SMALLEST} or more")
    _require_packages(format)
    facts = {
        "format": "iccld-export",
        "iccld": __version__,
        "label_space": model.label_space.to_dict(),
        "backbone": model.spec.backbone,
        "steps": steps,
        "draws": draws,
        "input_height": height,
        "precision": precision,
    }
    graph = ExportGraph(model.float().eval(), steps=steps, draws=draws, input_height=height).eval()
    converted = _convert(graph, facts)
    if format == "onnx":
        return write_atomic(path, lambda temporary: converted.save(temporary))
    return _save_openvino(converted, facts, path)


def _require_packages(format: Format) -> None:
    for package in ("onnx", "onnxscript", *(["openvino"] if format == "openvino" else [])):
        try:
            importlib.import_module(package)
        except ImportError as error:
            needs = f"{format} export needs the package {error.name}"
            raise InputError(f"{needs}; {how_to_install(format)}") from error


def _convert(graph: ExportGraph, facts: dict[str, Any]) -> torch.onnx.ONNXProgram:
    """Traces a graph for all sizes."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of its own code's future and of packages that are not used
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            names = OUTPUTS[: 3 + (graph.draws > 1)]
            converted = torch.onnx.export(
                _trace(graph), (), dynamo=True, input_names=["images"], output_names=names, verbose=False
            )
    except Exception as error:  # tracers fail in many ways; all mean the same to the user
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"backbone {facts['backbone']}: cannot be exported for all sizes ({reason}); choose another backbone for "
            "export"
        ) from error
    finally:
        logger.setLevel(level)
    assert converted is not None
    converted.model.metadata_props.update(_metadata(facts))
    return converted


def _trace(graph: ExportGraph) -> ExportedProgram:
    # Odd sizes, none a multiple of a stride, and no side that scaling or padding leaves alone: what happens to be
    # equal in the example would be taken for equal always.
    example = torch.randint(0, 256, (2, 135, 303, 3), dtype=torch.uint8)
    sizes = (Dim("batch"), Dim("height", min=SMALLEST), Dim("width", min=SMALLEST))
    with torch.no_grad():
        program = torch.export.export(
            graph,
            (example,),
            dynamic_shapes=(dict(enumerate(sizes)),),
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    # The tracer asserts what its shortcuts relied on in the example, such as that two sizes differ. Our code takes
    # none that matters, and a batch of one is no error.
    nodes = program.graph_module.graph
    for node in list(nodes.nodes):
        if node.target is torch.ops.aten._assert_scalar.default:
            nodes.erase_node(node)
    nodes.eliminate_dead_code()
    program.graph_module.recompile()
    return program


def _save_openvino(converted: torch.onnx.ONNXProgram, facts: dict[str, Any], path: Path) -> Path:
    import openvino

    # By way of ONNX: there the graph's sizes have been simplified.
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "model.xml"
        converted.save(whole.with_suffix(".onnx"))
        graph = openvino.convert_model(whole.with_suffix(".onnx"))
        for key, value in _metadata(facts).items():
            graph.set_rt_info(value, key)
        mark_precise(graph, facts["precision"])
        openvino.save_model(graph, whole, compress_to_fp16=False)
        # Weights first: a new graph never stands beside old weights for longer than a rename takes.
        for suffix in (".bin", ".xml"):
            write_atomic(path.with_suffix(suffix), partial(shutil.copyfile, whole.with_suffix(suffix)))
    return path


def _metadata(facts: dict[str, Any]) -> dict[str, str]:
    """What is read back, and beside it classes and palette in a form that anybody can use."""
    classes = facts["label_space"]["classes"]
    return {
        FACTS: json.dumps(facts),
        "classes": json.dumps([c["name"] for c in classes]),
        "palette": json.dumps([c["color"] for c in classes]),
    }
