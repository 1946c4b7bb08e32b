"""``iccld export``: writes a model as one graph for ONNX Runtime or OpenVINO."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from iccld.commands.flags import JsonFile, Model, OptionalFile
from iccld.commands.output import human_text, write_result
from iccld.errors import InputError
from iccld.models.settings import Draws, InputHeight, Steps
from iccld.outputs import Places
from iccld.progress import busy

if TYPE_CHECKING:
    from iccld.inference.precision import Image


Calibration = Annotated[tuple[str, ...], arg(metavar="IMAGES...", help_behavior_hint="")]
_MOST_IMAGES = 100


@dataclass(frozen=True)
class ExportArgs:
    """Writes a model as one graph that runs without this package.

      iccld export MODEL --format onnx --out model.onnx
      iccld predict model.onnx photos --out predictions

    The input is a batch of uint8 RGB images (batch, height, width, 3) of at least 33×33 pixels. The graph scales
    and normalizes the images. The outputs are labels, class probabilities and uncertainty at the size of the images.
    The metadata contain classes, colors and settings. 'iccld predict' and 'iccld evaluate' accept the file as a model.

    The export takes one or two minutes. OpenVINO writes two files, FILE.xml and FILE.bin.
    """

    model: Model
    """Folder of a saved model, streets (built in), or hub id (user/model[@revision])."""
    format: Literal["onnx", "openvino"] = "onnx"
    """Format: onnx (file .onnx) or openvino (file .xml). Each format needs an extra. Install the extra in a clone:
    pip install '.[onnx]' or pip install '.[openvino]'."""
    out: OptionalFile = None
    """File to write. The default is model.onnx or model.xml in the model's folder. For a hub id or a built-in model,
    the default is in the current folder."""
    steps: Steps = 1
    """Number K of sampling steps, fixed in the graph."""
    draws: Draws = 1
    """Number N of noise draws whose probabilities are averaged, fixed in the graph."""
    input_height: InputHeight | None = None
    """Height in pixels to which images are scaled. 0 means no scaling. The default is stored in the model."""
    precision: Literal["fp32", "bf16", "int8"] = "fp32"
    """Precision of the network, the same on every processor. bf16 and int8 require the format openvino. With both,
    scaling, normalization, softmax and the first layers still use fp32."""
    calibrate: Calibration = ()
    """Images or folders for int8, such as training images of the target. Up to 100 images are read, evenly spread. The
    ranges of the 8-bit integers are measured on them. int8 needs the extra int8."""
    json: JsonFile = None
    """JSON file for the path, size and settings of the exported model."""

    def run(self) -> int:
        """Exports the model, prints a command that predicts with it, and returns the exit code."""
        from iccld.inference.export import export_model
        from iccld.inference.exported import SUFFIXES
        from iccld.inference.segmenter import load_model

        folder = Path(self.model)
        out = self.out or (folder if folder.is_dir() else Path()) / f"model{SUFFIXES[self.format]}"
        weights = out.with_suffix(".bin")
        files = {"--out": (out, "graph"), "--json": (self.json, "json")}
        if self.format == "openvino" and not out.exists():
            files["--out (weights)"] = (weights, "graph")
        Places(files=files, models=[self.model]).check()
        if (self.precision == "int8") != bool(self.calibrate):
            raise InputError("--precision int8 and --calibrate IMAGES belong together; give both or neither")
        images = _read_images(self.calibrate)
        model = load_model(self.model, device="cpu")
        fixed: dict[str, Any] = {"steps": self.steps, "draws": self.draws, "precision": self.precision}
        with busy(f"exporting {self.model} to {self.format}", hint="a minute or two"):
            export_model(model, out, self.format, input_height=self.input_height, calibration=images, **fixed)
        size = out.stat().st_size + (weights.stat().st_size if self.format == "openvino" else 0)
        with human_text(self.json):
            kind = f"{size / 2**20:.1f} MiB, K = {self.steps}, N = {self.draws}, {self.precision}"
            print(f"exported: {out} ({kind})\npredict with: iccld predict {out} IMAGES --out OUT")
        facts = {"model": self.model, "out": str(out), "format": self.format, "bytes": size}
        write_result(self.json, {**facts, **fixed})
        return 0


def _read_images(inputs: tuple[str, ...]) -> list[Image]:
    """Reads up to 100 images, evenly spread over the images of the inputs."""
    from iccld.data.image_files import read_image
    from iccld.data.inputs import find_inputs, split_inputs

    if not inputs:
        return []
    found, _ = split_inputs(find_inputs(inputs, shared_names=True))
    if not found:
        raise InputError(f"--calibrate {inputs[0]}: holds videos alone; give images")
    step = max(1, len(found) / _MOST_IMAGES)
    chosen = [found[int(index * step)] for index in range(min(len(found), _MOST_IMAGES))]
    return [read_image(item.path) for item in chosen]
