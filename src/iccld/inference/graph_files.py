"""Reading of untrusted exported graphs: files are read up to a size limit and checked before a runtime loads them.

The runtime receives the checked bytes instead of a path, so that a graph cannot refer to other files. Graphs with loops
are refused, so that every accepted graph terminates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from iccld.errors import InputError
from iccld.escaping import shortened
from iccld.files import read_bounded

if TYPE_CHECKING:
    import onnx
    import openvino

FACTS = "iccld"  # name of the metadata entry with the settings, in ONNX and OpenVINO files
_MOST_BYTES = 2**31 - 1  # protobuf does not support larger messages
_MOST_BYTES_OF_XML = 2**26
_MOST_NODES = 50_000
_MOST_ELEMENTS = 2**31
_LONGEST_FACTS = 2**20
_LARGEST_SIDE = 2**15
_LOOPS = ("Loop", "TensorIterator", "If", "ReadValue", "Assign")


def read_onnx(path: Path) -> tuple[bytes, str]:
    """Returns the content of a checked ONNX file and its metadata entry ``FACTS`` (empty if missing).

    Raises ``InputError`` if the graph has loops, branches, custom operations or excessive sizes, or if weights are
    stored in other files.
    """
    import onnx

    data = read_bounded(path, _MOST_BYTES)
    model = onnx.ModelProto()
    model.ParseFromString(data)
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    for node in nodes:
        if node.domain not in ("", "ai.onnx"):
            raise _refusal(path, f"has operations of {shortened(node.domain)}")
        if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
            raise _refusal(path, f"has loops or branches ({shortened(node.op_type)})")
    for tensor in _tensors(model.graph, nodes):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise _refusal(path, "its weights lie in another file, which is not read")
        if any(side < 0 for side in tensor.dims) or math.prod(tensor.dims) > 8 * len(data):
            raise _refusal(path, f"weights of {list(tensor.dims)[:8]} numbers are not in it")
    text = next((p.value for p in model.metadata_props if p.key == FACTS), "")
    inputs, inner = map(_shapes_of_onnx, (model.graph.input, model.graph.value_info))
    _check(path, len(nodes), inputs, inner, text)
    return data, text


def read_openvino(path: Path, core: openvino.Core) -> tuple[openvino.Model, str]:
    """Returns a checked OpenVINO graph, and its metadata entry ``FACTS`` (empty if missing).

    The weights are read from the ``.bin`` file next to ``path``. Raises ``InputError`` if the graph has loops, state,
    custom operations or excessive sizes, or a file is missing.
    """
    graph = read_bounded(path, _MOST_BYTES_OF_XML)
    if b"<!" in graph.replace(b"<!--", b""):
        raise _refusal(path, "declares a document type, which graphs do not")
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise InputError(f"{path}: its weights {weights.name} are missing; copy both files")
    model = core.read_model(graph, read_bounded(weights, 2**34))
    nodes = model.get_ordered_ops()
    for node in nodes:
        kind, version = node.get_type_name(), str(node.get_type_info().version_id)
        if kind in _LOOPS or not version.startswith("opset"):
            raise _refusal(path, f"has loops, state or custom operations ({shortened(kind)})")
    text = str(model.get_rt_info(FACTS).value) if model.has_rt_info(FACTS) else ""
    outputs = [output for node in nodes for output in node.outputs()]
    inputs, inner = map(_shapes_of_openvino, (model.inputs, outputs))
    _check(path, len(nodes), inputs, inner, text)
    return model, text


def _tensors(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    sparse = [*graph.sparse_initializer]
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        # A field that is not set reads as an empty tensor, which passes every check.
        yield from (attribute.t, *attribute.tensors)
        sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
    for tensor in sparse:
        yield from (tensor.values, tensor.indices)


def _shapes_of_onnx(values: Iterable[onnx.ValueInfoProto]) -> list[list[int]]:
    shapes = [value.type.tensor_type.shape.dim for value in values]
    return [[d.dim_value if d.HasField("dim_value") else -1 for d in shape] for shape in shapes]


def _shapes_of_openvino(values: Iterable[openvino.Output]) -> list[list[int]]:
    shapes = [value.get_partial_shape() for value in values if value.get_partial_shape().rank.is_static]
    return [[side.get_length() if side.is_static else -1 for side in shape] for shape in shapes]


def _check(path: Path, count: int, inputs: Sequence[list[int]], inner: list[list[int]], facts: str) -> None:
    """Checks the number ``count`` of operations, the shapes, and the metadata ``facts`` of a graph.

    ``inputs`` contains the shapes of the input tensors. ``inner`` contains the shapes of the intermediate tensors. A
    dynamic dimension is -1. Images of shape (b, h, w, 3) must be the only input. Fixed dimensions are limited.
    """
    if count > _MOST_NODES:
        raise _refusal(path, f"has {count} operations, more than {_MOST_NODES}")
    if len(inputs) != 1 or len(inputs[0]) != 4 or inputs[0][3] != 3:
        raise InputError(f"{path}: is no exported ICCLD model; write one with: iccld export MODEL")
    if any(side > _LARGEST_SIDE for side in inputs[0]):
        raise _refusal(path, f"takes images of {inputs[0][:3]}, which is absurd")
    for sides in inner:
        if math.prod(side for side in sides if side != -1) > _MOST_ELEMENTS:
            raise _refusal(path, f"computes arrays of {sides[:8]} numbers")
    if len(facts) > _LONGEST_FACTS:
        raise _refusal(path, f"its metadata have {len(facts)} characters")


def _refusal(path: Path, reason: str) -> InputError:
    return InputError(f"{path}: {reason}; take only files of iccld export")
