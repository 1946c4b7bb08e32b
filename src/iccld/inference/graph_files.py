"""Exported graphs from somebody else: they are read within bounds and checked before a runtime sees them.

A runtime gets the bytes that were checked and no path, so a graph names no other file. Graphs without loops end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iccld.errors import InputError
from iccld.escaping import shortened
from iccld.files import read_bounded

if TYPE_CHECKING:
    import onnx
    import openvino

_MOST_BYTES = 2**31 - 1  # protobuf's own limit
_MOST_BYTES_OF_XML = 2**26
_MOST_NODES = 50_000
_MOST_ELEMENTS = 2**31
_LONGEST_FACTS = 2**20
_LARGEST_SIDE = 2**15
_REMEDY = "take only files of iccld export"


def read_onnx(path: Path, facts: str) -> tuple[bytes, str]:
    """Reads and checks an ONNX file.

    Args:
        path: the file.
        facts: key of the metadata that are wanted.

    Returns:
        The whole file, and the metadata, empty if there are none.

    Raises:
        InputError: the file cannot be read, or has weights in other files, loops, custom operations or absurd sizes.
    """
    import onnx

    data = read_bounded(path, _MOST_BYTES)
    model = onnx.ModelProto()
    model.ParseFromString(data)
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    _check_count(path, len(nodes))
    for node in nodes:
        if node.domain not in ("", "ai.onnx"):
            raise InputError(f"{path}: has operations of {shortened(node.domain)}; {_REMEDY}")
        if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
            raise InputError(f"{path}: has loops or branches ({shortened(node.op_type)}); {_REMEDY}")
    for tensor in _tensors(model.graph, nodes):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise InputError(f"{path}: its weights lie in another file, which is not read; {_REMEDY}")
        if any(side < 0 for side in tensor.dims) or math.prod(tensor.dims) > 8 * len(data):
            raise InputError(f"{path}: weights of {list(tensor.dims)[:8]} numbers are not in it; {_REMEDY}")
    shapes = [
        [d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim]
        for value in model.graph.input
    ]
    _check_inputs(path, shapes)
    for value in model.graph.value_info:
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim if d.HasField("dim_value")]
        _check_elements(path, dims)
    text = next((p.value for p in model.metadata_props if p.key == facts), "")
    return data, _bounded_facts(path, text)


def read_openvino(path: Path, core: openvino.Core, facts: str) -> tuple[openvino.Model, str]:
    """Reads and checks a graph of OpenVINO and its weights, a file beside it that ends with ``.bin``.

    Args:
        path: the file that ends with ``.xml``.
        core: OpenVINO.
        facts: key of the metadata that are wanted.

    Returns:
        The graph, and the metadata, empty if there are none.

    Raises:
        InputError: no such graph; or one with loops, state, custom operations or absurd sizes.
    """
    text = read_bounded(path, _MOST_BYTES_OF_XML)
    if b"<!" in text.replace(b"<!--", b""):
        raise InputError(f"{path}: declares a document type, which graphs do not; {_REMEDY}")
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise InputError(f"{path}: its weights {weights.name} are missing; copy both files")
    model = core.read_model(text, read_bounded(weights, 2**34))
    nodes = model.get_ordered_ops()
    _check_count(path, len(nodes))
    for node in nodes:
        kind, version = node.get_type_name(), str(node.get_type_info().version_id)
        if kind in ("Loop", "TensorIterator", "If", "ReadValue", "Assign") or not version.startswith("opset"):
            raise InputError(f"{path}: has loops, state or custom operations ({shortened(kind)}); {_REMEDY}")
        for output in node.outputs():
            shape = output.get_partial_shape()
            if shape.rank.is_static:
                _check_elements(path, [side.get_length() for side in shape if side.is_static])
    shapes = [
        [side.get_length() if side.is_static else -1 for side in value.get_partial_shape()]
        for value in model.inputs
        if value.get_partial_shape().rank.is_static
    ]
    _check_inputs(path, shapes)
    found = str(model.get_rt_info(facts).value) if model.has_rt_info(facts) else ""
    return model, _bounded_facts(path, found)


def _tensors(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    sparse: list[Any] = list(graph.sparse_initializer)
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            sparse += [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
            sparse += attribute.sparse_tensors
    for tensor in sparse:
        yield from (tensor.values, tensor.indices)


def _check_count(path: Path, count: int) -> None:
    if count > _MOST_NODES:
        raise InputError(f"{path}: has {count} operations, more than {_MOST_NODES}; {_REMEDY}")


def _check_inputs(path: Path, shapes: list[list[int]]) -> None:
    """Images are the only input: any batch, height and width, or fixed ones within bounds."""
    images = len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][3] == 3
    if not images:
        raise InputError(f"{path}: is no exported ICCLD model; write one with: iccld export MODEL")
    if any(side > _LARGEST_SIDE for side in shapes[0]):
        raise InputError(f"{path}: takes images of {shapes[0][:3]}, which is absurd; {_REMEDY}")


def _check_elements(path: Path, sides: list[int]) -> None:
    if math.prod(sides) > _MOST_ELEMENTS:
        raise InputError(f"{path}: computes arrays of {sides[:8]} numbers; {_REMEDY}")


def _bounded_facts(path: Path, text: str) -> str:
    if len(text) > _LONGEST_FACTS:
        raise InputError(f"{path}: its metadata have {len(text)} characters; {_REMEDY}")
    return text
