"""Offset activations: the FP32 result stays, codes below zero are used, and nothing that pads is shifted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from googlenet_deploy.calibration.calibrate import CalibrationResult
from googlenet_deploy.calibration.table import CalibrationTable
from googlenet_deploy.errors import UsageError
from googlenet_deploy.graph.graph import GraphView, attribute
from googlenet_deploy.graph.session import TensorSession
from googlenet_deploy.quantization.lint import lint_model
from googlenet_deploy.quantization.quantized_model import QuantizedModel, round_to_nearest
from googlenet_deploy.quantization.refine.activation_offset import offset_activations


@pytest.fixture
def plain(mini: Callable, mini_table: CalibrationTable) -> QuantizedModel:
    return round_to_nearest(mini(), mini_table)


@pytest.fixture
def moved(plain: QuantizedModel) -> QuantizedModel:
    return offset_activations(plain)


def scores(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    return np.asarray(TensorSession(model).run(images)["logits"])


def clips(model: onnx.ModelProto) -> dict[str, float]:
    """The lower bound of every Clip, by the tensor that it makes."""
    graph = GraphView(model)
    return {node.output[0]: float(graph.constant(node.input[1])) for node in graph.nodes if node.op_type == "Clip"}


def test_fp32_computes_the_same(plain: QuantizedModel, moved: QuantizedModel, pictures: Callable) -> None:
    images = pictures(6, seed=3)
    before, after = scores(plain.model, images), scores(moved.model, images)
    assert np.abs(before - after).max() < 1e-5 * np.abs(before).max()
    assert clips(moved.model)


def test_only_sources_without_padded_readers_are_shifted(moved: QuantizedModel, plain: QuantizedModel) -> None:
    graph = GraphView(plain.model)
    shifted = set(clips(moved.model))
    assert shifted >= {f"inception4a/{name}" for name in ("branch1", "branch2/1", "branch3/1", "branch4/1")}
    for name in shifted:
        for node in graph.readers(name):
            assert node.op_type != "Conv" or not any(attribute(node, "pads")), f"{name} is read with padding"
    assert not any(name.endswith(("branch2/0", "branch3/0")) for name in shifted)
    assert not shifted & {"conv1", "conv3"}  # LRN reads them


def test_tensors_of_a_concat_share_one_offset(moved: QuantizedModel) -> None:
    bounds = clips(moved.model)
    for module in ("inception3a", "inception4a"):
        values = {bound for name, bound in bounds.items() if name.startswith(module) and not name.endswith("/0")}
        assert len(values) == 1


def test_offset_is_a_whole_number_of_steps_so_that_zero_stays_exact(moved: QuantizedModel) -> None:
    bounds = clips(moved.model)
    checked = 0
    for tensor, scale in moved.scales.items():
        family = [bound for name, bound in bounds.items() if name.startswith(tensor + "/") or name == tensor]
        for bound in family:
            steps = -bound / scale
            assert abs(steps - round(steps)) < 1e-3
            assert 0 < round(steps) <= 128
            checked += 1
    assert checked


def test_step_of_the_shifted_tensors_is_about_halved(plain: QuantizedModel, moved: QuantizedModel) -> None:
    ratios = [moved.scales[name] / plain.scales[name] for name in plain.scales]
    assert min(ratios) == pytest.approx(127 / 255, abs=0.02)
    assert max(ratios) <= 1.001


def test_no_zero_points_and_nothing_that_tensorrt_refuses(moved: QuantizedModel) -> None:
    model = moved.build()
    assert lint_model(model) == []
    graph = GraphView(model)
    for node in graph.nodes:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert not graph.constant(node.input[2]).any()


def test_int8_is_nearer_to_fp32(plain: QuantizedModel, moved: QuantizedModel, pictures: Callable) -> None:
    images = pictures(48, seed=9)
    reference = scores(plain.model, images)
    errors = [np.square(scores(quantized.build(), images) - reference).sum() for quantized in (plain, moved)]
    assert errors[1] < errors[0]


def test_readers_biases_take_the_sums_of_rounded_weights(moved: QuantizedModel) -> None:
    graph, bounds = GraphView(moved.model), clips(moved.model)
    planned = next(node for node in moved.plan.nodes if node.input == "maxpool3")
    offset = -bounds["inception3a/branch1"]
    weight = graph.constant(planned.weight)
    rounding = (moved.weights[planned.name].dequantize() - weight).reshape(len(weight), -1).sum(axis=1)
    expected = graph.constant(GraphView(moved.model).node(planned.name).input[2]) + offset * rounding
    assert moved.biases[planned.name] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_draft_with_refined_biases_is_refused(plain: QuantizedModel, moved: QuantizedModel) -> None:
    with pytest.raises(UsageError, match="before biases"):
        offset_activations(moved)


def test_net_without_a_fitting_tensor_is_left_alone(
    tiny: Callable, calibrated: Callable[..., CalibrationResult]
) -> None:
    model = tiny()
    for node in model.graph.node:  # the only free tensor is the classifier's: an LRN in between takes it away
        if node.op_type == "GlobalAveragePool":
            lrn = onnx.helper.make_node("LRN", [node.input[0]], ["lrn"], "lrn", size=3)
            node.input[0] = "lrn"
    model.graph.node.insert(5, lrn)
    quantized = round_to_nearest(model, calibrated(model).table)
    result = offset_activations(quantized)
    assert result.model is quantized.model
    assert result.notes["offset activations"] == "no tensor allows it"
