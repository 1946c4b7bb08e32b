"""``iccld export`` and the runtimes that take what it writes, against the traced module run by torch."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import jaxtyping
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import scipy.stats
import torch
from torch import nn

from iccld.cli import main
from iccld.data.street_scenes import StreetScenes
from iccld.inference import export
from iccld.inference.export import ExportGraph
from iccld.inference.exported import load_exported, open_core
from iccld.inference.segmenter import load_model
from iccld.labels import CITYSCAPES19
from iccld.models.iccld import ICCLD
from iccld.models.layers import ImageCoder
from iccld.models.prediction import Prediction

FORMATS = {"onnx": ".onnx", "openvino": ".xml"}
STEPS, DRAWS, HEIGHT = 2, 2, 96

pytestmark = pytest.mark.slow


def _once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Calls a function the first time and gives the same answer from then on."""
    answers: list[Any] = []

    def call(*arguments: Any) -> Any:
        if not answers:
            answers.append(function(*arguments))
        return answers[0]

    return call


class _TinyCoder(ImageCoder):
    """Five convolutions: what tracing takes grows with the number of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = {2: 8, 4: 8, 8: 16, 16: 16, 32: 16}
        widths = (3, *self.channels.values())
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))

    def forward(self, images: torch.Tensor) -> dict[int, torch.Tensor]:
        features = {}
        for stride, conv in zip(self.channels, self.convs, strict=True):
            images = torch.tanh(conv(images))
            features[stride] = images
        return features


@pytest.fixture(scope="module", autouse=True)
def _tiny_network() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("iccld.models.image_coder.CompactCoder", _TinyCoder)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and what ``iccld export`` made of it in every format; what is slow is done once for all.

    ``model.onnx`` and ``model.xml`` compute in fp32, ``bf16.xml`` in bf16 and ``int8.xml`` in int8.
    """
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    model = ICCLD(CITYSCAPES19, width=16, latent_channels=4, input_height=HEIGHT)
    for weight in model.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.05)
    model.save_pretrained(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_convert", _once(export._convert))
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # traced sizes are symbols, no numbers
        for name in FORMATS:
            words = ["export", str(folder), "--format", name, "--steps", str(STEPS), "--draws", str(DRAWS)]
            assert main(words) == 0
        words = ["export", str(folder), "--format", "openvino", "--out", str(folder / "bf16.xml"), "--steps"]
        assert main([*words, str(STEPS), "--draws", str(DRAWS), "--precision", "bf16"]) == 0
        words[words.index(str(folder / "bf16.xml"))] = str(folder / "int8.xml")
        (folder / "frames").mkdir()
        for index, image in enumerate(_scenes(3, 97, 151)):
            cv2.imwrite(str(folder / "frames" / f"{index}.png"), image[..., ::-1])
        words += [str(STEPS), "--draws", str(DRAWS), "--precision", "int8"]
        assert main([*words, "--calibrate", str(folder / "frames")]) == 0
    return folder


def _scenes(count: int, height: int, width: int) -> np.ndarray:
    scenes = StreetScenes("camera", count=count, height=height, width=width, seed=5)
    return np.stack([scenes.image(index) for index in range(count)])


def _stacked(results: list[Any]) -> Prediction:
    """The maps of several results with a batch axis."""
    names = ("labels", "probabilities", "mutual_information")
    return Prediction(*(np.stack([getattr(result, name) for result in results]) for name in names))


@pytest.mark.parametrize("name", FORMATS)
def test_runtimes_agree_with_torch_at_any_size(folder: Path, name: str) -> None:
    graph = ExportGraph(load_model(str(folder)), steps=STEPS, draws=DRAWS, input_height=HEIGHT)
    exported = load_exported(str(folder / f"model{FORMATS[name]}"), threads=1)
    assert exported.label_space == CITYSCAPES19
    for images in (_scenes(2, 128, 256), _scenes(1, 97, 151), _scenes(1, 96, 128), _scenes(1, 48, 48)):
        prediction = _stacked(exported.predict(images))
        with torch.inference_mode():
            labels, probabilities, uncertainty, information = graph(torch.from_numpy(images))
        assert prediction.labels.shape == images.shape[:3]
        assert (prediction.labels == labels.numpy()).mean() >= 0.999
        np.testing.assert_allclose(prediction.probabilities, probabilities.numpy(), atol=1e-3)
        np.testing.assert_allclose(prediction.uncertainty, uncertainty.numpy(), atol=1e-3)
        np.testing.assert_allclose(prediction.mutual_information, information.numpy(), atol=1e-3)


def _graph(folder: Path) -> Callable[[np.ndarray], list[np.ndarray]]:
    """What torch computes in fp32, with the noise of the exported files."""
    graph = ExportGraph(load_model(str(folder)), steps=STEPS, draws=DRAWS, input_height=HEIGHT)

    def run(images: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            return [output.numpy() for output in graph(torch.from_numpy(images))]

    return run


def _static_onnx(path: Path, shape: tuple[int, ...]) -> Callable[[np.ndarray], list[np.ndarray]]:
    model = onnx.load(path)
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        dim.dim_value = size
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return lambda images: session.run(None, {"images": images})


def _static_openvino(path: Path, shape: tuple[int, ...]) -> Callable[[np.ndarray], list[np.ndarray]]:
    core = open_core()
    model = core.read_model(path)
    model.reshape({0: list(shape)})
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(model, "CPU", settings)
    return lambda images: [np.array(value) for value in compiled(images).to_tuple()]


@pytest.mark.parametrize("open_static", [_static_onnx, _static_openvino])
@pytest.mark.parametrize("shape", [(1, 128, 256, 3), (2, 97, 151, 3)])
def test_fixed_sizes_give_the_same_for_every_image(
    folder: Path, open_static: Callable[..., Callable[[np.ndarray], list[np.ndarray]]], shape: tuple[int, ...]
) -> None:
    """OpenVINO once changed, from image to image, what it computes of the noise alone."""
    suffix = ".onnx" if open_static is _static_onnx else ".xml"
    run, wanted = open_static(folder / f"model{suffix}", shape), _graph(folder)
    images = _scenes(3 * shape[0], *shape[1:3])
    for batch in (*np.split(images, 3), images[: shape[0]]):
        for found, expected in zip(run(batch), wanted(batch), strict=True):
            if found.dtype == np.uint8:
                assert (found == expected).mean() >= 0.999
            else:
                np.testing.assert_allclose(found, expected, atol=1e-3)


def test_plain_openvino_computes_an_fp32_file_in_fp32(folder: Path) -> None:
    """Without any setting; on processors with bf16 instructions the file alone says it."""
    core = open_core()
    compiled = core.compile_model(core.read_model(folder / "model.xml"), "CPU", {"INFERENCE_NUM_THREADS": 1})
    images, wanted = _scenes(2, 128, 256), _graph(folder)
    labels, probabilities, *_ = compiled(images).to_tuple()
    expected = wanted(images)
    assert (labels == expected[0]).mean() >= 0.995
    np.testing.assert_allclose(probabilities, expected[1], atol=0.02)


def test_bf16_is_near_fp32_and_uncertainty_still_the_entropy(folder: Path) -> None:
    model, images = load_exported(str(folder / "bf16.xml"), threads=1), _scenes(2, 97, 151)
    assert model.precision == "bf16"
    prediction, expected = _stacked(model.predict(images)), _graph(folder)(images)
    assert (prediction.labels == expected[0]).mean() >= 0.97
    np.testing.assert_allclose(prediction.probabilities, expected[1], atol=0.1)
    raw = open_core().compile_model(folder / "bf16.xml", "CPU", {"INFERENCE_NUM_THREADS": 1})
    _, probabilities, uncertainty, information = raw(images).to_tuple()
    np.testing.assert_allclose(uncertainty, scipy.stats.entropy(probabilities, axis=1), atol=1e-4)
    assert (information <= uncertainty + 1e-4).all()


def test_int8_is_near_fp32_with_integer_weights(folder: Path) -> None:
    model, images = load_exported(str(folder / "int8.xml"), threads=1), _scenes(2, 97, 151)
    assert model.precision == "int8"
    prediction, expected = _stacked(model.predict(images)), _graph(folder)(images)
    assert (prediction.labels == expected[0]).mean() >= 0.95
    np.testing.assert_allclose(prediction.probabilities, expected[1], atol=0.15)
    graphs = [open_core().read_model(folder / f"{name}.xml") for name in ("model", "int8")]
    counts = [
        sum(o.get_element_type().get_type_name() == "i8" for n in g.get_ordered_ops() for o in n.outputs())
        for g in graphs
    ]
    assert counts[0] == 0 < counts[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--format openvino --precision int8", "--calibrate"),
        ("--format openvino --calibrate {frames}", "--precision int8"),
        ("--format onnx --precision int8 --calibrate {frames}", "int8 is slow or inexact in ONNX Runtime"),
        ("--format openvino --precision int8 --calibrate {folder}/gone", "gone"),
    ],
)
def test_int8_without_images_or_in_onnx_is_refused(
    folder: Path, tmp_path: Path, words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"folder": str(folder), "frames": str(folder / "frames")}
    suffix = "onnx" if "onnx" in words else "xml"
    out = tmp_path / f"model.{suffix}"
    flags = [word.format(**places) for word in words.split()]
    assert main(["export", str(folder), "--out", str(out), *flags]) == 2
    err = capsys.readouterr().err
    assert said in err.splitlines()[-1]
    assert not out.exists()


def test_classes_and_palette_are_in_the_metadata(folder: Path) -> None:
    properties = {p.key: p.value for p in onnx.load(folder / "model.onnx").metadata_props}
    of_openvino = open_core().read_model(folder / "model.xml")
    for read in (properties.__getitem__, lambda key: of_openvino.get_rt_info(key).value):
        assert json.loads(read("classes")) == list(CITYSCAPES19.names)
        assert json.loads(read("palette"))[0] == [128, 64, 128]
        facts = json.loads(read("iccld"))
        assert (facts["steps"], facts["draws"], facts["input_height"]) == (STEPS, DRAWS, HEIGHT)
        assert facts["precision"] == "fp32"


@pytest.mark.parametrize("name", FORMATS)
def test_predict_and_evaluate_take_the_file(folder: Path, tmp_path: Path, name: str) -> None:
    model, image = str(folder / f"model{FORMATS[name]}"), _scenes(1, 70, 90)[0]
    assert cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    words = ["predict", model, str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--threads", "1"]
    assert main(words) == 0
    written = cv2.imread(str(tmp_path / "out" / "labels" / "a.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(written, load_exported(model, threads=1).predict(image).labels)
    scores = tmp_path / "scores.json"
    words = ["evaluate", model, "--dataset", "street_scenes", "--limit", "2", "--json", str(scores)]
    assert main(words) == 0
    facts = json.loads(scores.read_text())
    assert (facts["steps"], facts["draws"]) == (STEPS, DRAWS)


def test_other_steps_are_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cv2.imwrite(str(tmp_path / "a.png"), _scenes(1, 70, 90)[0])
    model = str(folder / "model.onnx")
    words = ["predict", model, str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--steps", "8"]
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"iccld: error: \S+model.onnx: was exported with steps 2, not 8; .*\n", captured.err)
    assert not (tmp_path / "out").exists()


def test_a_graph_of_other_software(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [made], [made])
    graph.output[0].name = "y"
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10),
        tmp_path / "other.onnx",
    )
    words = ["predict", str(tmp_path / "other.onnx"), str(tmp_path), "--out", str(tmp_path / "out")]
    assert cv2.imwrite(str(tmp_path / "a.png"), _scenes(1, 70, 90)[0])
    assert main(words) == 2
    assert "is no exported ICCLD model" in capsys.readouterr().err


def test_example_of_the_page(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert cv2.imwrite(str(tmp_path / "street.png"), _scenes(1, 70, 90)[0])
    with contextlib.chdir(tmp_path):
        os.symlink(folder / "model.onnx", "model.onnx")
        # The page's model has one draw, this one two.
        example = example.replace("uncertainty = session", "uncertainty, _ = session")
        exec(compile(example, "export.md", "exec"), {})
    assert capsys.readouterr().out.strip() in CITYSCAPES19.names


@pytest.mark.skipif(not shutil.which("cmake") or not shutil.which("c++"), reason="no C++ compiler and CMake")
@pytest.mark.parametrize("name", ["model.onnx", "model.xml"])
def test_the_example_in_cpp_gives_the_same_labels(folder: Path, tmp_path: Path, name: str) -> None:
    source = Path(__file__).parents[2] / "examples" / "cpp"
    build = folder / "build"
    package = Path(openvino.__file__).parent / "cmake"
    for words in (["-S", source, "-B", build, f"-DOpenVINO_DIR={package}"], ["--build", build]):
        subprocess.run(["cmake", *words], check=True, capture_output=True, timeout=300)
    image = _scenes(1, 97, 151)
    path, out = tmp_path / "street.ppm", tmp_path / "labels.pgm"
    assert cv2.imwrite(str(path), image[0, ..., ::-1])
    subprocess.run([build / "segment", folder / name, path, out], check=True, timeout=120)
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (expected,) = session.run(["labels"], {"images": image})
    assert np.mean(cv2.imread(str(out), cv2.IMREAD_UNCHANGED) == expected[0]) >= 0.999


@pytest.mark.skipif(not shutil.which("cmake") or not shutil.which("c++"), reason="no C++ compiler and CMake")
def test_the_example_in_cpp_names_a_file_that_it_cannot_read(folder: Path, tmp_path: Path) -> None:
    program = folder / "build" / "segment"
    (tmp_path / "a.ppm").write_bytes(b"P6\n4 4\n255\n12345")
    words = [program, folder / "model.onnx", tmp_path / "a.ppm", tmp_path / "b.pgm"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (1, f"{tmp_path / 'a.ppm'}: is incomplete\n")
