"""``iccld export``: a model as one graph for ONNX Runtime or OpenVINO."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from iccld.commands.flags import JsonFile, Model, OptionalFile
from iccld.commands.output import human_text, write_result
from iccld.models.settings import Draws, InputHeight, Steps
from iccld.outputs import Places
from iccld.progress import busy


@dataclass(frozen=True)
class ExportArgs:
    """Writes a model as one graph that runs without this package.

      iccld export MODEL --format onnx --out model.onnx
      iccld predict model.onnx photos --out predictions

    The graph takes uint8 RGB images (batch, height, width, 3) of any size from 33×33 pixels on, scales and
    normalizes them itself, and gives labels, class probabilities and uncertainty at their size. Classes, colors and
    settings are in its metadata. 'iccld predict' and 'iccld evaluate' take the file like any model.

    Writing takes a minute or two. OpenVINO writes two files, FILE.xml and FILE.bin.
    """

    model: Model
    """Folder of a saved model, or a hub id (user/model or user/model@revision)."""
    format: Literal["onnx", "openvino"] = "onnx"
    """onnx (.onnx; in the clone: pip install '.[onnx]') or openvino (.xml; '.[openvino]')."""
    out: OptionalFile = None
    """The file to write. By default model.onnx or model.xml in the model's folder, or here for a hub id."""
    steps: Steps = 1
    """Denoising steps K, fixed in the graph."""
    draws: Draws = 1
    """Noise draws N whose probabilities are averaged, fixed in the graph."""
    input_height: InputHeight | None = None
    """Height that images are scaled to; 0 takes them as they are. By default the model's own, the one trained at."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """What the network computes in, on every processor. bf16 is for openvino alone; scaling, normalization, softmax
    and the first layers stay fp32."""
    json: JsonFile = None
    """Where to write what was exported."""

    def run(self) -> int:
        """Exports and says how to go on."""
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
        model = load_model(self.model, device="cpu")
        fixed: dict[str, Any] = {"steps": self.steps, "draws": self.draws, "precision": self.precision}
        with busy(f"exporting {self.model} to {self.format}", hint="a minute or two"):
            export_model(model, out, self.format, input_height=self.input_height, **fixed)
        size = sum(file.stat().st_size for file in (out, *([weights] if self.format == "openvino" else [])))
        with human_text(self.json):
            print(
                f"exported: {out} ({size / 2**20:.1f} MiB, K = {self.steps}, N = {self.draws}, {self.precision})"
            )
            print(f"predict with: iccld predict {out} IMAGES --out OUT")
        facts = {"model": self.model, "out": str(out), "format": self.format, "bytes": size}
        write_result(self.json, {**facts, **fixed})
        return 0
