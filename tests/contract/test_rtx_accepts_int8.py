"""TensorRT-RTX's own parser and builder take our Q/DQ models, and other tools' once they are mended; no GPU is needed.

See `test_rtx_accepts.py` for what such a build proves.
"""

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

from googlenet_deploy.calibration.methods import AUTO, METHODS
from googlenet_deploy.calibration.options import PlacementOptions
from googlenet_deploy.calibration.placement import place
from googlenet_deploy.calibration.table import CalibrationTable, ImageRecord, TensorRecord
from googlenet_deploy.calibration.watched_tensors import plan_observations
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.export import pipeline
from googlenet_deploy.export.capture import capture
from googlenet_deploy.export.options import ExportOptions
from googlenet_deploy.export.passes.outputs import SetBatch
from googlenet_deploy.export.pipeline import export_checkpoint
from googlenet_deploy.export.samples import seeded_samples
from googlenet_deploy.graph.files import load_model
from googlenet_deploy.graph.graph import GraphView, serialize
from googlenet_deploy.graph.pass_manager import PassManager
from googlenet_deploy.model.architecture import get_architecture
from googlenet_deploy.model.checkpoint import Checkpoint
from googlenet_deploy.model.googlenet import GoogLeNet
from googlenet_deploy.quantization.qdq_insert import QdqOptions
from googlenet_deploy.quantization.quantized_model import round_to_nearest
from googlenet_deploy.quantization.refine.activation_offset import offset_activations
from googlenet_deploy.quantization.refine.cross_layer_equalization import equalize_channels
from googlenet_deploy.quantization.refine.weight_mse import choose_weight_scales
from googlenet_deploy.quantization.repair import repair_model

SPECIFICATION = Preprocessing(resize=64, crop=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3)


@lru_cache
def checkpoint(name: str) -> Checkpoint:
    """A net of an eighth of the width for 64x64 images."""
    torch.manual_seed(0)
    model = GoogLeNet(get_architecture(name), 10, width=0.125).eval()
    with torch.inference_mode():
        model.fc.weight.data /= model(torch.randn(2, 3, 64, 64)).abs().max()
    return Checkpoint(model, model.architecture, SPECIFICATION, source_sha256="0" * 64)


Load = Callable[..., onnx.ModelProto]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Exports a small net for a batch size, None for a symbolic one; each is recorded and made once."""

    @lru_cache
    def small(name: str, batch: int | None) -> bytes:
        net = checkpoint(name)
        recorded = model_made_once(tmp_path_factory, f"captured-64-{name}", lambda: capture(net.model, (64, 64)))
        options = ExportOptions(simplify=False, batch=batch)
        with mock.patch.object(pipeline, "capture", return_value=recorded):
            return serialize(export_checkpoint(net, options, seeded_samples(SPECIFICATION, 2)).model)

    def load(name: str, batch: int | None = None) -> onnx.ModelProto:
        return onnx.ModelProto.FromString(small(name, batch))

    return load


def any_table(model: onnx.ModelProto) -> CalibrationTable:
    """Ranges of 1, 1.1, 1.2, ...: the builder does not care, as long as they differ."""
    graph = GraphView(model)
    records = tuple(
        TensorRecord(seen.members, -1.0, 1.0, dict.fromkeys([*METHODS, AUTO], 1 + number / 10), "max")
        for number, seen in enumerate(plan_observations(graph, place(graph)))
    )
    return CalibrationTable(records, AUTO, {}, ImageRecord(1, 2, 0, ""), SPECIFICATION, "0" * 64)


def quantised(model: onnx.ModelProto, weights: str = "float", **placement: Any) -> onnx.ModelProto:
    return round_to_nearest(model, any_table(model), PlacementOptions(**placement)).build(QdqOptions(weights))


def layers_of(network: Any) -> list[Any]:
    return [network.get_layer(index) for index in range(network.num_layers)]


@pytest.mark.parametrize("name", ["bvlc", "torchvision"])
@pytest.mark.parametrize("batch", [None, 2], ids=["dynamic", "static"])
@pytest.mark.parametrize("weights", ["float", "int8"])
def test_our_models_are_built(rtx: Any, load: Load, name: str, batch: int | None, weights: str) -> None:
    model = quantised(load(name, batch), weights)
    layers = layers_of(rtx.build(serialize(model)))
    kinds = [layer.type for layer in layers]
    assert kinds.count(rtx.trt.LayerType.CONVOLUTION) == 57
    stated = [node.op_type for node in model.graph.node]
    assert kinds.count(rtx.trt.LayerType.QUANTIZE) == stated.count("QuantizeLinear")
    assert kinds.count(rtx.trt.LayerType.DEQUANTIZE) == stated.count("DequantizeLinear")


@pytest.mark.parametrize(
    "placement",
    [
        pytest.param({"dla": True}, id="dla"),
        pytest.param({"quantize_input": False, "quantize_classifier": False}, id="ends-in-float"),
        pytest.param({"excluded": frozenset({"inception4a/branch2/1/conv"})}, id="one-in-float"),
    ],
)
def test_other_placements_are_built(rtx: Any, load: Load, placement: dict[str, Any]) -> None:
    assert rtx.build(serialize(quantised(load("bvlc", 1), **placement)))


@pytest.mark.parametrize("name", ["bvlc", "torchvision"])
@pytest.mark.parametrize("batch", [None, 2], ids=["dynamic", "static"])
def test_offset_activations_are_built(rtx: Any, load: Load, name: str, batch: int | None) -> None:
    model = load(name, batch)
    equalized, _ = equalize_channels(model)
    quantized = offset_activations(choose_weight_scales(round_to_nearest(equalized, any_table(equalized))))
    layers = layers_of(rtx.build(serialize(quantized.build())))
    clips = sum(node.op_type == "Clip" for node in quantized.model.graph.node)
    assert clips >= 36, "four branches of nine Inception modules"
    activations = [layer for layer in layers if layer.type == rtx.trt.LayerType.ACTIVATION]
    assert len(activations) == 57


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_what_onnxruntime_makes_is_refused_until_it_is_mended(rtx: Any, load: Load, form: str, tmp_path: Path) -> None:
    model = foreign(load("bvlc", 1), form, tmp_path)
    _, refusals = rtx.parse(serialize(model))
    assert refusals
    result = repair_model(model)
    assert result.left == []
    assert rtx.build(serialize(result.model))


def foreign(model: onnx.ModelProto, form: str, folder: Path) -> onnx.ModelProto:
    """What ONNX Runtime's quantiser makes of a model by default."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Images(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            prepared = np.asarray(seeded_samples(SPECIFICATION, 2).prepared)
            self.rest = iter([{"input": image[None]} for image in prepared])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.rest, None)

    onnx.save(model, folder / "model.onnx")
    quantize_static(folder / "model.onnx", folder / "q.onnx", Images(), quant_format=QuantFormat[form])
    return load_model(folder / "q.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("batch", [None, 1], ids=["dynamic", "static"])
def test_the_published_net_is_built(rtx: Any, bvlc_onnx: Path, batch: int | None) -> None:
    model = load_model(bvlc_onnx)
    if batch is not None:
        model = PassManager().run(model, [SetBatch(batch)])
    network = rtx.build(serialize(quantised(model)))
    assert "inception4a/branch2/1/conv" in {layer.name for layer in layers_of(network)}
