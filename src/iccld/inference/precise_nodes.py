"""Precision of OpenVINO graphs: marks the nodes that must be computed in fp32.

On processors with bf16 instructions, OpenVINO computes in bf16 unless the compile settings request another precision.
``iccld.inference.exported`` requests the precision of the file, but other programs can omit the request. In a bf16
graph, scaling, normalization, softmax and the first layers must also stay in fp32. Therefore, the attribute ``precise``
is set on single nodes. OpenVINO's CPU plugin obeys the attribute in convolutions, arithmetic, reductions and gathering.
If the plugin replaces a node by another one, the attribute is lost. This happens for MatMul, interpolation, Divide and
Subtract (2026.4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from iccld.inference.exported import Precision

if TYPE_CHECKING:
    import openvino

_CONVOLUTIONS = ("Convolution", "GroupConvolution")
_LAYERS = (*_CONVOLUTIONS, "MatMul")
_EDGES = ("Constant", "Parameter", "Result")
_ENTRY_STRIDE = 4
"""Largest input stride of the image coder's layers that stay in fp32 in a bf16 graph. On 20 CamVid frames, the
labels of a bf16 graph agree with those in fp32 at 98.8 % of the pixels if no such layer stays in fp32, at 99.6 % if the
largest stride is 2, and at 99.8 % if it is 4 (docs/export.md)."""


def mark_precise(graph: openvino.Model, precision: Precision) -> None:
    """Marks the nodes that must be computed in fp32.

    If ``precision`` is fp32, all nodes are marked. If ``precision`` is bf16, only the first and last nodes are marked.
    """
    nodes = {node.get_name(): node for node in graph.get_ordered_ops()}
    marked = set(nodes) if precision == "fp32" else _outside(nodes)
    for name in marked:
        node = nodes[name]
        in_fp32 = any(output.get_element_type().get_type_name() == "f32" for output in node.outputs())
        if in_fp32 and node.get_type_name() not in _EDGES:
            node.get_rt_info()["precise_0"] = ""


def _outside(nodes: dict[str, openvino.Node]) -> set[str]:
    """Returns the names of all nodes up to and including the first layers, and of all nodes after the last layers.

    First layers are layers of the image coder whose input stride, relative to the image, is at most ``_ENTRY_STRIDE``.
    Last layers are convolutions without a further convolution after them.
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
        elif enters[name] <= _ENTRY_STRIDE and ahead[name]:
            marked.add(name)
    return marked
