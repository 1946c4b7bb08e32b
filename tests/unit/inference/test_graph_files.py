"""Exported graphs from somebody else: each ends in one line, and no other file is read."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper

from iccld.errors import InputError
from iccld.inference.segmenter import load_segmenter
from iccld.labels import LabelSpace

SPACE = LabelSpace.from_names("two", ("road", "sky"))


def _facts(**changes: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "format": "iccld-export",
        "label_space": SPACE.to_dict(),
        "steps": 1,
        "draws": 1,
        "input_height": 0,
        "precision": "fp32",
    }
    return facts | changes


def _onnx(facts: Any = None) -> onnx.ModelProto:
    """Class 1 where the image is bright."""
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["b", "h", "w", 3])
    outputs = [
        helper.make_tensor_value_info("labels", TensorProto.UINT8, ["b", "h", "w"]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["b", 2, "h", "w"]),
    ]
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "last"], ["gray"], keepdims=0),
        helper.make_node("Div", ["gray", "most"], ["bright"]),
        helper.make_node("Sub", ["one", "bright"], ["dark"]),
        helper.make_node("Unsqueeze", ["bright", "first"], ["b1"]),
        helper.make_node("Unsqueeze", ["dark", "first"], ["d1"]),
        helper.make_node("Concat", ["d1", "b1"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["index"], axis=1, keepdims=0),
        helper.make_node("Cast", ["index"], ["labels"], to=TensorProto.UINT8),
    ]
    constants = [
        helper.make_tensor("last", TensorProto.INT64, [1], [3]),
        helper.make_tensor("first", TensorProto.INT64, [1], [1]),
        helper.make_tensor("most", TensorProto.FLOAT, [], [255.0]),
        helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
    ]
    graph = helper.make_graph(nodes, "g", [images], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {"iccld": json.dumps(facts or _facts())})
    return model


def _external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[2]
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../../../../etc/passwd"), ("offset", "0"), ("length", "4")):
        tensor.external_data.add(key=key, value=value)


def _loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", ["most"], ["x"], body=body))


def _custom(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Run", ["one"], ["x"], domain="evil\x1b[2J"))


def _huge(model: onnx.ModelProto) -> None:
    model.graph.initializer[2].dims.extend([10**6, 10**6])


def _input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 10**9


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_external, "weights lie in another file"),
        (_loop, "loops or branches"),
        (_custom, r"operations of 'evil\\x1b\[2J'"),
        (_huge, "are not in it"),
        (_input, "which is absurd"),
    ],
)
def test_evil_onnx(tmp_path: Path, spoil: Callable[[onnx.ModelProto], None], said: str) -> None:
    model = _onnx()
    spoil(model)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=said) as caught:
        load_segmenter(str(tmp_path / "m.onnx"), threads=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (_facts(steps=10**6), "steps"),
        (_facts(steps="1"), "steps"),
        (_facts(input_height=-1), "input_height"),
        (_facts(precision="int4"), "precision"),
        ({k: v for k, v in _facts().items() if k != "precision"}, "'precision'.*is missing"),
        (_facts(label_space={"name": "x", "classes": [[]] * 10**4}), "classes"),
        ({"format": "other"}, "is no exported ICCLD model"),
        (_facts(note="x" * 2**21), "metadata"),
    ],
)
def test_metadata_are_checked(tmp_path: Path, facts: dict[str, Any], said: str) -> None:
    (tmp_path / "m.onnx").write_bytes(_onnx(facts).SerializeToString())
    with pytest.raises(InputError, match=said) as caught:
        load_segmenter(str(tmp_path / "m.onnx"), threads=1)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small graph of OpenVINO."""
    folder = tmp_path_factory.mktemp("graph")
    (folder / "m.onnx").write_bytes(_onnx().SerializeToString())
    model = openvino.convert_model(folder / "m.onnx")
    model.set_rt_info(json.dumps(_facts()), "iccld")
    openvino.save_model(model, folder / "m.xml", compress_to_fp16=False)
    return folder / "m.xml"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (r'offset="\d+" size="4"', r'offset="99999999" size="4"', "damaged"),
        (r'version="opset\d+">(?=[^@]*?ArgMax|)', 'version="extension">', "damaged|custom operations"),
        (r'<\?xml version="1.0"\?>', '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]>', "document type"),
        (r'shape="\?,\?,\?,3"', 'shape="1,1000000,1000000,3"', "absurd|arrays|damaged"),
    ],
)
def test_evil_openvino(graph: Path, tmp_path: Path, old: str, new: str, said: str) -> None:
    text = graph.read_text(encoding="utf-8")
    spoiled = re.sub(old, new, text)
    assert spoiled != text
    (tmp_path / "m.xml").write_text(spoiled, encoding="utf-8")
    (tmp_path / "m.bin").write_bytes(graph.with_suffix(".bin").read_bytes())
    with pytest.raises(InputError, match=said) as caught:
        load_segmenter(str(tmp_path / "m.xml"), threads=1)
    assert "\n" not in str(caught.value)


def test_honest_graphs_are_taken(graph: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    for path in (graph, graph.with_suffix(".onnx")):
        model = load_segmenter(str(path), threads=1)
        np.testing.assert_array_equal(model.predict(image).labels, image.mean(axis=-1) > 127.5)


def test_what_a_graph_gives_is_checked(tmp_path: Path) -> None:
    model = _onnx(_facts(label_space=LabelSpace.from_names("three", ("a", "b", "c")).to_dict()))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="fit neither the image nor its classes"):
        load_segmenter(str(tmp_path / "m.onnx"), threads=1).predict(np.zeros((40, 48, 3), np.uint8))


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


def test_pickles_are_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("evil.pt2", "w") as archive:
        archive.writestr("evil/data/weights/model.pt", pickle.dumps(_Evil()))
    with pytest.raises(InputError, match=r"evil.pt2: files of torch.export hold pickles.*onnx or openvino"):
        load_segmenter("evil.pt2")
    assert not Path("ran").exists()
