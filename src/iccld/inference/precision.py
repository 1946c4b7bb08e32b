"""Precision of exported OpenVINO graphs: nodes that stay in fp32, and quantization to int8."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from iccld.inference.exported import Precision
from iccld.inference.runtimes import import_nncf
from iccld.progress import track

if TYPE_CHECKING:
    import openvino

Image = UInt8[np.ndarray, "h w 3"]
_CONVOLUTIONS = ("Convolution", "GroupConvolution")
_LAYERS = (*_CONVOLUTIONS, "MatMul")
_ENTRY_STRIDE = 4
"""In a bf16 graph, layers of the image coder stay in fp32 if the stride of their input is at most this value. On 20
CamVid frames, the labels of the bf16 graph then agree with the labels of the fp32 graph at 99.8 % of the pixels. With a
value of 2, the agreement is 99.6 %. If no layer of the image coder stays in fp32, the agreement is 98.8 %
(docs/export.md)."""


def mark_precise(graph: openvino.Model, precision: Precision) -> None:
    """Sets the attribute ``precise`` on the nodes that must be computed in fp32.

    On processors with bf16 instructions, OpenVINO computes in bf16 unless the compile settings request another
    precision. ``iccld.inference.exported`` requests the precision of the file, but other programs can omit the request.
    OpenVINO's CPU plugin obeys the attribute in convolutions, arithmetic, reductions and gathering. The plugin (2026.4)
    replaces MatMul, interpolation, Divide and Subtract by other nodes, which lack the attribute.
    """
    nodes = {node.get_name(): node for node in graph.get_ordered_ops()}
    for name in nodes if precision == "fp32" else _outer_nodes(nodes):
        node = nodes[name]
        in_fp32 = any(output.get_element_type().get_type_name() == "f32" for output in node.outputs())
        if in_fp32 and node.get_type_name() not in ("Constant", "Parameter", "Result"):
            node.get_rt_info()["precise_0"] = ""


def quantize(graph: openvino.Model, images: Sequence[Image]) -> openvino.Model:
    """Quantizes convolutions and matrix products to 8-bit integers (NNCF's post-training quantization).

    The layers of the image coder whose input has a stride of at most 2 stay in fp32, and so does everything before the
    first and after the last layer. If these first layers are quantized too, half as many labels again change
    (docs/export.md).

    Args:
        graph: Graph in fp32.
        images: RGB images (h w 3, uint8), from which the ranges of the activations are measured.
    """
    nncf = import_nncf()
    nodes = {node.get_name(): node for node in graph.get_ordered_ops()}
    kept = [nodes[name].get_friendly_name() for name in _outer_nodes(nodes, entry_stride=2)]
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nncf.quantize(
            graph,
            nncf.Dataset(track(images, len(images), "calibrating"), lambda image: image[None]),
            subset_size=len(images),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=kept, validate=False),
        )


def _outer_nodes(nodes: dict[str, openvino.Node], entry_stride: int = _ENTRY_STRIDE) -> set[str]:
    """Returns the names of all nodes up to and including the first layers, and of all nodes after the last layers.

    Layers are convolutions and MatMul nodes. The first layers are layers of the image coder whose input has a stride of
    at most ``entry_stride`` relative to the image. The last layers are layers that no further layer follows.
    """
    kind = {name: node.get_type_name() for name, node in nodes.items()}
    # ``enters`` and ``leaves`` are the strides at the input and output of each node. If a node has several inputs, the
    # largest stride is used. ShapeOf nodes are skipped because their outputs are sizes, not features.
    enters, leaves, inside = dict[str, int](), dict[str, int](), dict[str, bool]()
    for name, node in nodes.items():
        values = [] if kind[name] == "ShapeOf" else node.input_values()
        before = [value.get_node().get_name() for value in values]
        enters[name] = max((leaves[p] for p in before), default=1)
        inside[name] = any(inside[p] or kind[p] in _LAYERS for p in before)
        own = int(node.get_attributes()["strides"][0]) if kind[name] in _CONVOLUTIONS else 1
        leaves[name] = enters[name] * own
    marked = set()
    last, ahead = dict[str, bool](), dict[str, bool]()
    for name in reversed(nodes):
        targets = [t.get_node().get_name() for out in nodes[name].outputs() for t in out.get_target_inputs()]
        after = [t for t in targets if kind[t] != "ShapeOf"]
        last[name] = not any(kind[t] in _LAYERS or not last[t] for t in after)
        # A node whose output is combined with coarser features belongs to the decoder and stays in bf16. In fp32,
        # OpenVINO (2026.4) would fuse the node with a bf16 sum, and the model would return empty maps.
        ahead[name] = all(enters[t] <= leaves[name] and (kind[t] in _LAYERS or ahead[t]) for t in after)
        if kind[name] not in _LAYERS and (last[name] or not inside[name]):
            marked.add(name)
        elif enters[name] == 1:
            if kind[name] in _CONVOLUTIONS and leaves[name] > 1:
                marked.add(name)
        elif enters[name] <= entry_stride and ahead[name]:
            marked.add(name)
    return marked
