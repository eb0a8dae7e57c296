"""Small nets and classifiers, their calibration and export, and pictures for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import pytest
import torch
from made_once import model_made_once
from mini_googlenet import SPECIFICATION, Net, build_mini, build_tiny
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from googlenet_deploy.calibration.calibrate import (
    CalibrationResult,
    CalibrationSource,
    calibrate_arrays,
)
from googlenet_deploy.calibration.images import ArrayBatches
from googlenet_deploy.calibration.options import CalibrationOptions
from googlenet_deploy.calibration.table import CalibrationTable
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.export import pipeline
from googlenet_deploy.export.capture import capture
from googlenet_deploy.export.options import ExportOptions
from googlenet_deploy.export.pipeline import ExportResult, export_checkpoint
from googlenet_deploy.export.samples import Samples, seeded_samples, smooth_pictures
from googlenet_deploy.graph.edit import copy_model
from googlenet_deploy.graph.files import write_model
from googlenet_deploy.graph.shapes import restate_shapes
from googlenet_deploy.model.architecture import get_architecture
from googlenet_deploy.model.checkpoint import Checkpoint
from googlenet_deploy.model.googlenet import GoogLeNet


@pytest.fixture(scope="session")
def tiny() -> Callable[..., onnx.ModelProto]:
    """Builds a net of two convolutions and a classifier, anew each time."""
    return build_tiny


@pytest.fixture(scope="session")
def net() -> Callable[..., Net]:
    """Starts a graph; see `Net`."""
    return Net


@pytest.fixture(scope="session")
def mini() -> Callable[..., onnx.ModelProto]:
    """Builds the small GoogLeNet, anew each time; see `build_mini`."""
    return build_mini


@pytest.fixture(scope="session")
def source_of() -> Callable[..., CalibrationSource]:
    """Wraps a model for calibration."""
    return lambda model: CalibrationSource(model, "model.onnx", "0" * 64, SPECIFICATION, {"architecture": "bvlc"})


@pytest.fixture(scope="session")
def specification() -> Preprocessing:
    """How the small nets' images are prepared."""
    return SPECIFICATION


def prepared_pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.asarray(seeded_samples(SPECIFICATION, count, seed).prepared)


@pytest.fixture(scope="session")
def pictures() -> Callable[..., np.ndarray]:
    """Seeded pictures as the small nets take them, float32 (count, 3, 16, 16)."""
    return prepared_pictures


@pytest.fixture(scope="session")
def calibrated(source_of: Callable[..., CalibrationSource]) -> Callable[..., CalibrationResult]:
    """Calibrates a model on seeded pictures, or on the array that is given."""

    def run(model: onnx.ModelProto, array: Any = None, batch_size: int = 4, **options: Any) -> CalibrationResult:
        values = prepared_pictures(12) if array is None else array
        return calibrate_arrays(source_of(model), ArrayBatches(values, batch_size), CalibrationOptions(**options))

    return run


@pytest.fixture(scope="session")
def mini_table(calibrated: Callable[..., CalibrationResult]) -> CalibrationTable:
    """The small GoogLeNet's table."""
    return calibrated(build_mini()).table


@pytest.fixture
def model_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a model to a file."""

    def write(model: onnx.ModelProto, name: str = "model.onnx") -> Path:
        write_model(tmp_path / name, model)
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty seeded pictures as PNG files, a little larger than the nets' input."""
    folder = tmp_path_factory.mktemp("pictures")
    for index, pixels in enumerate(smooth_pictures(40, (20, 24), 3, seed=5)):
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")
    return folder


# Channel by channel different, so that a swapped order or a shared constant shows.
SPECIFICATIONS = {
    "bvlc": Preprocessing(resize=72, crop=(64, 64), channels="BGR", scale=1.0, mean=(104, 117, 123), std=(1, 1, 1)),
    "torchvision": Preprocessing(resize=72, crop=(64, 64), mean=(0.4, 0.5, 0.6), std=(0.5, 0.25, 0.75)),
    "plain": Preprocessing(
        resize=(64, 64), resize_mode="stretch", crop=(64, 64), mean=(0.4, 0.5, 0.6), std=(0.5, 0.25, 0.75)
    ),
}


@lru_cache
def small_checkpoint(name: str) -> Checkpoint:
    """An eighth as wide as the published net, ten classes, 64x64, with BatchNorm statistics that do something."""
    torch.manual_seed(7)
    model = GoogLeNet(get_architecture(name), 10, width=0.125, auxiliary=True).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
    # Kaiming's gain adds up over 57 layers; logits of the usual size make the usual tolerance apply.
    with torch.inference_mode():
        logits = model(torch.randn(4, 3, 64, 64))
    model.fc.weight.data /= logits.abs().max()
    return Checkpoint(
        model=model,
        architecture=model.architecture,
        preprocessing=SPECIFICATIONS[name],
        class_names=tuple(f"class {index}" for index in range(10)),
        source=name,
        source_sha256="0" * 64,
    )


@lru_cache
def _samples(name: str) -> Samples:
    return seeded_samples(SPECIFICATIONS[name], 4)


@pytest.fixture(scope="session", params=["bvlc", "torchvision"])
def architecture(request: pytest.FixtureRequest) -> str:
    """Both nets, one after the other."""
    return str(request.param)


@pytest.fixture(scope="session")
def checkpoint_of() -> Callable[[str], Checkpoint]:
    """Small classifiers by architecture; shared, not to be changed."""
    return small_checkpoint


@pytest.fixture(scope="session")
def captured_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], onnx.ModelProto]:
    """The graphs that the exporter records of them; a copy each time."""

    @lru_cache
    def captured(name: str) -> onnx.ModelProto:
        model = small_checkpoint(name).model
        return model_made_once(tmp_path_factory, f"captured-{name}", lambda: capture(model, (64, 64)))

    return lambda name: copy_model(captured(name))


@pytest.fixture(scope="session")
def samples_of() -> Callable[[str], Samples]:
    """Four seeded pictures for them."""
    return _samples


@pytest.fixture(scope="session")
def export_small(captured_of: Callable[[str], onnx.ModelProto]) -> Callable[..., ExportResult]:
    """Exports a small classifier with the given options; the graph is recorded once. onnxsim only when asked for."""

    @lru_cache
    def exported(name: str, options: ExportOptions) -> ExportResult:
        with mock.patch.object(pipeline, "capture", return_value=captured_of(name)):
            return export_checkpoint(small_checkpoint(name), options, _samples(name))

    return lambda name, **options: exported(name, ExportOptions(**{"simplify": False, **options}))


def make_model(
    nodes: Any, inputs: Any, outputs: Any, constants: Any = None, opset: int = 17, ir_version: Any = 8
) -> onnx.ModelProto:
    """A model of nodes, (name, type, shape) of inputs and outputs, and constant arrays by name."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


@pytest.fixture(scope="session")
def model_of() -> Callable[..., onnx.ModelProto]:
    """See `make_model`."""
    return make_model


@pytest.fixture(scope="session")
def tiny_classifier() -> Callable[..., onnx.ModelProto]:
    """A convolution with padding, ReLU, pooling and Gemm: 3x8x8 images to 5 classes."""

    def build(seed: int = 0, opset: int = 17, batch: object = "batch") -> onnx.ModelProto:
        generator = np.random.default_rng(seed)
        constants = {
            "w": generator.standard_normal((4, 3, 3, 3)).astype(np.float32),
            "b": generator.standard_normal(4).astype(np.float32),
            "fw": generator.standard_normal((5, 4)).astype(np.float32),
            "fb": generator.standard_normal(5).astype(np.float32),
        }
        nodes = [
            helper.make_node("Conv", ["input", "w", "b"], ["c"], "c", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
            helper.make_node("Relu", ["c"], ["r"], "r"),
            helper.make_node("GlobalAveragePool", ["r"], ["p"], "p"),
            helper.make_node("Flatten", ["p"], ["f"], "f", axis=1),
            helper.make_node("Gemm", ["f", "fw", "fb"], ["logits"], "g", transB=1),
        ]
        model = make_model(
            nodes,
            [("input", TensorProto.FLOAT, [batch, 3, 8, 8])],
            [("logits", TensorProto.FLOAT, [batch, 5])],
            constants,
            opset,
            {9: 4, 11: 6, 13: 7}.get(opset, 8),
        )
        restate_shapes(model)
        return model

    return build
