"""A small classifier in three precisions, with its calibration table and some images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from made_once import made_once
from PIL import Image

from googlenet_deploy.calibration.calibrate import open_source
from googlenet_deploy.calibration.images import select_images
from googlenet_deploy.calibration.options import CalibrationOptions
from googlenet_deploy.device.images.sources import ImageSource
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.device.targets.target import load_target
from googlenet_deploy.export.options import ExportOptions
from googlenet_deploy.export.pipeline import export_checkpoint
from googlenet_deploy.export.samples import seeded_samples, smooth_pictures
from googlenet_deploy.graph.files import write_model
from googlenet_deploy.model.architecture import get_architecture
from googlenet_deploy.model.checkpoint import Checkpoint
from googlenet_deploy.model.googlenet import GoogLeNet
from googlenet_deploy.packaging.device_zipapp import device_zipapp
from googlenet_deploy.packaging.jetson import JetsonRequest, write_jetson
from googlenet_deploy.quantization.quantize import QuantizationOptions, quantize

SPECIFICATION = Preprocessing(resize=72, crop=(64, 64), mean=(0.4, 0.5, 0.6), std=(0.5, 0.25, 0.75))
NAMES = ("cat", "dog; wolf", "Möwe", *(f"class {index}" for index in range(3, 10)))


@dataclass(frozen=True)
class Classifier:
    """Where everything of the small classifier lies."""

    folder: Path
    images: tuple[ImageSource, ...]

    @property
    def fp32(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def int8(self) -> Path:
        return self.folder / "model.int8.onnx"

    @property
    def table(self) -> Path:
        return self.folder / "table.json"


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """The batch-normalised net, an eighth as wide, ten classes, 64x64."""
    folder = made_once(tmp_path_factory, "classifier", _make)
    return Classifier(folder, select_images(folder / "images", None).chosen)


def _make(folder: Path) -> None:
    torch.manual_seed(3)
    net = GoogLeNet(get_architecture("torchvision"), 10, width=0.125).eval()
    with torch.inference_mode():
        net.fc.weight.data *= 10 / net(torch.randn(4, 3, 64, 64)).abs().max()
    checkpoint = Checkpoint(net, net.architecture, SPECIFICATION, NAMES, source="small", source_sha256="5" * 64)
    exported = export_checkpoint(checkpoint, ExportOptions(opset=13), seeded_samples(SPECIFICATION, 2))
    write_model(folder / "model.onnx", exported.model)
    (folder / "images").mkdir()
    for index, pixels in enumerate(smooth_pictures(12, (80, 100), 3, seed=1)):
        Image.fromarray(pixels).save(folder / "images" / f"{index:02d}.{'png' if index % 2 else 'jpg'}", quality=95)
    selection = select_images(folder / "images", None)
    options = QuantizationOptions(calibration=CalibrationOptions(quiet=True), checked=0)
    result = quantize(open_source(folder / "model.onnx"), None, selection, options)
    write_model(folder / "model.int8.onnx", result.model)
    result.table.save(folder / "table.json")


@pytest.fixture(scope="session")
def request_int8(classifier: Classifier) -> JetsonRequest:
    """A request for an INT8 bundle for an Orin Nano."""
    return JetsonRequest(
        target=load_target("orin-nano"),
        precision="int8",
        models={"fp32": classifier.fp32, "int8": classifier.int8},
        images=classifier.images,
        pyz=device_zipapp(),
        table=classifier.table,
    )


@pytest.fixture(scope="session")
def jetson_folder(request_int8: JetsonRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That bundle, unpacked; tests that change something copy it."""
    folder = tmp_path_factory.mktemp("jetson") / "bundle"
    write_jetson(folder, request_int8)
    return folder


def changed_byte(path: Path, position: int | None = None) -> None:
    """Flips a bit in a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if position is None else position] ^= 1
    path.write_bytes(data)


def logits_of(path: Path, images: np.ndarray) -> np.ndarray:
    """What ONNX Runtime computes, first output."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: images})[0])
