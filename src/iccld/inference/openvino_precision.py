"""How precisely OpenVINO is to compute a graph, written into its file; and how OpenVINO is opened.

On processors with bf16 instructions OpenVINO computes in bf16 unless it is told otherwise when a graph is compiled.
What this package compiles is told so (``iccld.inference.exported``). For others, and to keep scaling, normalization,
softmax and the first layers in fp32 where the rest is bf16, single nodes bear the attribute ``precise``, which
OpenVINO's CPU plugin obeys in convolutions, arithmetic, reductions and gathering. It loses it where it replaces a node
by another one: products of matrices, interpolation, quotients, differences (2026.4).
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import openvino

Precision = Literal["fp32", "bf16"]

_CONVOLUTIONS = ("Convolution", "GroupConvolution")
_LAYERS = (*_CONVOLUTIONS, "MatMul")
_CAPS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_EDGES = ("Const", "Parameter", "Result")
_ENTRY_STRIDE = 4
"""In bf16, layers of the image coder whose input is at this stride or finer stay fp32. On 20 CamVid frames the labels
that agree with fp32 are 98.8 % without them, 99.6 % up to stride 2 and 99.8 % up to stride 4 (docs/export.md)."""


def open_core() -> openvino.Core:
    """OpenVINO with its CPU plugin loaded.

    The plugin asks the processor itself for its instructions, and its copy of oneDNN minds ``ONEDNN_MAX_CPU_ISA``.
    Where the two differ it crashes (2026.4), so the variable is hidden while the plugin reads it, which it does once.
    """
    import openvino

    hidden = {name: os.environ.pop(name) for name in _CAPS if name in os.environ}
    try:
        core = openvino.Core()
        core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return core
    finally:
        os.environ.update(hidden)


def mark_precise(path: Path, precision: Precision) -> None:
    """Marks the nodes of a graph that are to be computed in fp32: all, or the first and last ones.

    Args:
        path: a graph that OpenVINO wrote; nodes are in the order of their edges.
        precision: fp32 marks all nodes; bf16 marks those before and after the network, and its first layers.
    """
    tree = ET.parse(path)
    nodes = {node.attrib["id"]: node for node in tree.iterfind("layers/layer")}
    kept = {
        name
        for name in nodes
        if any(p.get("precision") == "FP32" for p in nodes[name].iterfind("output/port"))
    }
    if precision == "bf16":
        kept &= _outside(tree, nodes)
    for name in kept:
        node = nodes[name]
        if node.attrib["type"] in _EDGES:
            continue
        notes = node.find("rt_info")
        if notes is None:
            notes = ET.Element("rt_info")
            node.insert(0 if node.find("data") is None else 1, notes)
        notes.append(ET.Element("attribute", {"name": "precise", "version": "0"}))
    tree.write(path, encoding="utf-8", xml_declaration=True)


def _outside(tree: ET.ElementTree[ET.Element], nodes: dict[str, ET.Element]) -> set[str]:
    """Nodes before the network's first layers, after its last, and the first layers themselves."""
    kind = {name: node.attrib["type"] for name, node in nodes.items()}
    parents, children = defaultdict(list), defaultdict(list)
    for edge in tree.iterfind("edges/edge"):
        start, end = edge.attrib["from-layer"], edge.attrib["to-layer"]
        parents[end].append(start)
        if kind[end] != "ShapeOf":  # sizes carry no pixels
            children[start].append(end)
    # Strides of what enters and leaves a node, the coarsest one where several meet.
    enters, leaves, inside = dict[str, int](), dict[str, int](), dict[str, bool]()
    for name, node in nodes.items():
        before = [] if kind[name] == "ShapeOf" else parents[name]
        enters[name] = max((leaves[p] for p in before), default=1)
        inside[name] = any(inside[p] or kind[p] in _LAYERS for p in before)
        own = int(node.find("data").get("strides").split(",")[0]) if kind[name] in _CONVOLUTIONS else 1  # type: ignore[union-attr]
        leaves[name] = enters[name] * own
    kept = set()
    last, ahead = dict[str, bool](), dict[str, bool]()
    for name in reversed(nodes):
        last[name] = not any(kind[c] in _LAYERS or not last[c] for c in children[name])
        # What meets coarser features before the next layer belongs to the decoder. In fp32, OpenVINO (2026.4) would
        # fuse it with a sum in bf16, and give empty maps.
        ahead[name] = all(
            enters[c] <= leaves[name] and (kind[c] in _LAYERS or ahead[c]) for c in children[name]
        )
        if kind[name] not in _LAYERS and (last[name] or not inside[name]):
            kept.add(name)
        elif enters[name] == 1:
            if kind[name] in _CONVOLUTIONS and leaves[name] > 1:
                kept.add(name)
        elif enters[name] <= _ENTRY_STRIDE and ahead[name]:
            kept.add(name)
    return kept
