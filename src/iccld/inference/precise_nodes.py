"""How precisely OpenVINO is to compute a graph, noted at its nodes.

On processors with bf16 instructions OpenVINO computes in bf16 unless it is told otherwise when a graph is compiled.
What this package compiles is told so (``iccld.inference.exported``). For others, and to keep scaling, normalization,
softmax and the first layers in fp32 where the rest is bf16, single nodes bear the attribute ``precise``, which
OpenVINO's CPU plugin obeys in convolutions, arithmetic, reductions and gathering. It loses it where it replaces a node
by another one: products of matrices, interpolation, quotients, differences (2026.4).
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
"""In bf16, layers of the image coder whose input is at this stride or finer stay fp32. On 20 CamVid frames the labels
that agree with fp32 are 98.8 % without them, 99.6 % up to stride 2 and 99.8 % up to stride 4 (docs/export.md)."""


def mark_precise(graph: openvino.Model, precision: Precision) -> None:
    """Marks the nodes of a graph that are to be computed in fp32: all, or with bf16 the first and last ones."""
    nodes = {node.get_name(): node for node in graph.get_ordered_ops()}
    marked = set(nodes) if precision == "fp32" else _outside(nodes)
    for name in marked:
        node = nodes[name]
        in_fp32 = any(output.get_element_type().get_type_name() == "f32" for output in node.outputs())
        if in_fp32 and node.get_type_name() not in _EDGES:
            node.get_rt_info()["precise_0"] = ""


def _outside(nodes: dict[str, openvino.Node]) -> set[str]:
    """Nodes before the network's first layers, after its last, and the first layers themselves."""
    kind = {name: node.get_type_name() for name, node in nodes.items()}
    # Strides of what enters and leaves a node, the coarsest one where several meet; sizes carry no pixels.
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
        # What meets coarser features before the next layer belongs to the decoder. In fp32, OpenVINO (2026.4) would
        # fuse it with a sum in bf16, and give empty maps.
        ahead[name] = all(enters[t] <= leaves[name] and (kind[t] in _LAYERS or ahead[t]) for t in after)
        if kind[name] not in _LAYERS and (last[name] or not inside[name]):
            marked.add(name)
        elif enters[name] == 1:
            if kind[name] in _CONVOLUTIONS and leaves[name] > 1:
                marked.add(name)
        elif enters[name] <= _ENTRY_STRIDE and ahead[name]:
            marked.add(name)
    return marked
