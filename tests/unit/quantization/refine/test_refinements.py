"""Bias correction and learned rounding of whole nets: what they reach, and what they leave alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from mini_googlenet import Net

from googlenet_deploy.calibration.calibrate import CalibrationResult
from googlenet_deploy.calibration.images import ArrayBatches
from googlenet_deploy.calibration.options import PlacementOptions
from googlenet_deploy.calibration.table import CalibrationTable
from googlenet_deploy.errors import InputError
from googlenet_deploy.graph.session import TensorSession
from googlenet_deploy.quantization.lint import lint_model
from googlenet_deploy.quantization.quantized_model import QuantizedModel, round_to_nearest
from googlenet_deploy.quantization.refine.activation_offset import offset_activations
from googlenet_deploy.quantization.refine.activation_store import Frontier, StoredTensor
from googlenet_deploy.quantization.refine.bias_correction import correct_biases, fit_bias, outputs_of
from googlenet_deploy.quantization.refine.im2col import Bounds, LayerRows, sample_rows
from googlenet_deploy.quantization.refine.learned_rounding import learn_rounding
from googlenet_deploy.quantization.refine.weight_mse import choose_weight_scales
from googlenet_deploy.quantization.weights import QuantizedWeight


@pytest.fixture(scope="module")
def images(pictures: Callable) -> np.ndarray:
    return np.asarray(pictures(48, seed=11))


@pytest.fixture(scope="module")
def unseen(pictures: Callable) -> np.ndarray:
    return np.asarray(pictures(64, seed=12))


@pytest.fixture(scope="module")
def rough(mini: Callable, mini_table: CalibrationTable) -> QuantizedModel:
    """The small net with weights of about 5 bits, so that what weights cost stands out."""
    quantized = round_to_nearest(mini(), mini_table)
    weights = {}
    for node in quantized.plan.nodes:
        fine = quantized.weights[node.name]
        codes = np.rint(fine.values / np.float32(8)).astype(np.int8)
        weights[node.name] = QuantizedWeight(codes, fine.scales * np.float32(8), fine.axis)
    return QuantizedModel(quantized.model, quantized.plan, quantized.table, quantized.scales, weights)


def noise(quantized: QuantizedModel, images: np.ndarray) -> float:
    """Squared error of the scores."""
    wanted, got = (TensorSession(model).run(images)["logits"] for model in (quantized.model, quantized.build()))
    return float(np.square(wanted - got).sum())


def test_bias_correction_brings_the_scores_nearer(
    rough: QuantizedModel, images: np.ndarray, unseen: np.ndarray
) -> None:
    result = correct_biases(rough, ArrayBatches(images), quiet=True)
    assert noise(result, unseen) < 0.9 * noise(rough, unseen)
    assert set(result.biases) == {node.name for node in rough.plan.nodes}
    assert all(np.array_equal(weight.values, rough.weights[name].values) for name, weight in result.weights.items())
    assert result.notes["bias correction"] == f"{len(rough.plan.nodes)} layers, on 48 images"


def test_learned_rounding_is_better_still(rough: QuantizedModel, images: np.ndarray, unseen: np.ndarray) -> None:
    biased = correct_biases(rough, ArrayBatches(images), quiet=True)
    learned = learn_rounding(rough, ArrayBatches(images), quiet=True)
    assert noise(learned, unseen) < noise(biased, unseen)
    assert "layers" in learned.notes["learned rounding"]
    assert lint_model(learned.build()) == []


def test_all_refinements_together(mini: Callable, mini_table: CalibrationTable, images: np.ndarray) -> None:
    quantized = offset_activations(choose_weight_scales(round_to_nearest(mini(), mini_table)))
    result = learn_rounding(quantized, ArrayBatches(images), quiet=True)
    assert lint_model(result.build()) == []
    assert noise(result, images) < noise(round_to_nearest(mini(), mini_table), images)
    assert list(result.notes) == ["weight scales", "offset activations", "learned rounding"]


def test_same_images_give_the_same_model(rough: QuantizedModel, images: np.ndarray) -> None:
    first, second = (learn_rounding(rough, ArrayBatches(images, 8), quiet=True).build() for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_layers_in_float_stay_as_they_are(mini: Callable, mini_table: CalibrationTable, images: np.ndarray) -> None:
    name = round_to_nearest(mini(), mini_table).plan.nodes[2].name
    quantized = round_to_nearest(mini(), mini_table, PlacementOptions(excluded=frozenset({name})))
    result = correct_biases(quantized, ArrayBatches(images[:8]), quiet=True)
    assert name not in result.biases
    assert len(result.biases) == len(quantized.plan.nodes)


def test_grouped_and_dilated_layers_keep_their_weights_and_get_a_bias(
    calibrated: Callable[..., CalibrationResult], images: np.ndarray
) -> None:
    net = Net(3)
    top = net.conv("input", "conv1", 6, 3)
    net.constant("grouped.weight", net.generator.standard_normal((6, 3, 1, 1)).astype(np.float32))
    net.add("Conv", [top, "grouped.weight"], "grouped", kernel_shape=[1, 1], group=2)
    net.constant("wide.weight", net.generator.standard_normal((6, 6, 3, 3)).astype(np.float32) / 8)
    net.add("Conv", ["grouped", "wide.weight"], "wide", kernel_shape=[3, 3], dilations=[2, 2], pads=[2] * 4)
    net.classifier("wide")
    model = net.model()
    quantized = round_to_nearest(model, calibrated(model).table, method="max")
    result = correct_biases(quantized, ArrayBatches(images[:8]), quiet=True)
    assert {node.name for node in quantized.plan.nodes} == set(result.biases)
    for name in ("grouped", "wide"):
        assert np.array_equal(result.weights[name].values, quantized.weights[name].values)
    assert result.notes["bias correction"].startswith("4 layers")
    assert noise(result, images) < noise(quantized, images)


def test_classifier_stored_the_other_way_round(
    calibrated: Callable[..., CalibrationResult], images: np.ndarray
) -> None:
    net = Net(4)
    net.classifier(net.conv("input", "conv1", 6, 3))
    model = net.model()
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "fc.weight")
    values = np.ascontiguousarray(onnx.numpy_helper.to_array(weight).T)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    del gemm.attribute[:]
    quantized = round_to_nearest(model, calibrated(model).table)
    result = learn_rounding(quantized, ArrayBatches(images), quiet=True)
    assert result.weights[quantized.plan.nodes[-1].name].values.shape == values.shape
    assert noise(result, images) < 1.5 * noise(quantized, images)


def test_model_of_a_fixed_batch_takes_any_number_of_images(
    mini: Callable, calibrated: Callable[..., CalibrationResult], images: np.ndarray
) -> None:
    model = mini(batch=4)
    quantized = round_to_nearest(model, calibrated(model).table)
    result = correct_biases(quantized, ArrayBatches(images[:10], 4), quiet=True)
    assert result.notes["bias correction"].endswith("on 10 images")


def test_pixels_as_input_stay_uint8(mini: Callable, calibrated: Callable[..., CalibrationResult]) -> None:
    model = mini()
    cast = onnx.helper.make_node("Cast", ["pixels"], ["input"], "cast", to=onnx.TensorProto.FLOAT)
    model.graph.node.insert(0, cast)
    model.graph.input[0].name = "pixels"
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    pixels = np.random.default_rng(0).integers(0, 256, (12, 3, 16, 16), np.uint8)
    quantized = round_to_nearest(model, calibrated(model, pixels).table)
    result = correct_biases(quantized, ArrayBatches(pixels), quiet=True)
    assert len(result.biases) == len(quantized.plan.nodes)


def test_no_images_is_a_clear_error(rough: QuantizedModel, images: np.ndarray) -> None:
    with pytest.raises(InputError, match="refinements"):
        correct_biases(rough, ArrayBatches(images[:0]), quiet=True)


def test_walk_keeps_only_what_is_still_read(rough: QuantizedModel, images: np.ndarray) -> None:
    frontier = Frontier(rough, ArrayBatches(images[:8], 4), 6)
    assert frontier.sizes == [4, 2]
    seen = []
    while ready := frontier.ready():
        seen += [node.name for node in ready]
        assert set(frontier.wanted) == set(frontier.given)
        frontier.refine({node.name: rough.weights[node.name] for node in ready}, {})
    assert sorted(seen) == sorted(node.name for node in rough.plan.nodes)
    assert "input" not in frontier.wanted


def test_walk_gives_what_both_models_compute(rough: QuantizedModel, images: np.ndarray) -> None:
    names = [node.input for node in rough.plan.nodes if node.input != "input"]
    wanted = TensorSession(rough.model, names).run(images[:4])
    given = TensorSession(rough.build(), [f"{name}/dequantized" for name in names]).run(images[:4])
    frontier = Frontier(rough, ArrayBatches(images[:4], 4), 4)
    while ready := frontier.ready():
        for node in ready:
            if node.input != "input":
                pair = frontier.batch(node.input, 0)
                assert np.abs(pair[1] - wanted[node.input]).max() <= 2e-3 * np.abs(wanted[node.input]).max()
                # Codes differ by one where a sum in another order fell to the other side of a half.
                exact = given[f"{node.input}/dequantized"]
                assert np.square(pair[0] - exact).mean() <= 0.3 * np.square(exact - wanted[node.input]).mean()
        frontier.refine({node.name: rough.weights[node.name] for node in ready}, {})


def test_rows_are_what_the_layer_multiplies(rough: QuantizedModel, images: np.ndarray) -> None:
    frontier = Frontier(rough, ArrayBatches(images[:4], 2), 4)
    first = frontier.ready()[0]
    rows = sample_rows(frontier, first, seed=0, rows=10**6)
    made = TensorSession(rough.model, [frontier.graph.node(first.name).output[0]]).run(images[:4])
    values = next(iter(made.values()))
    flat = values.transpose(0, 2, 3, 1).reshape(-1, values.shape[1])
    assert rows.wanted.shape == flat.shape
    # Pixels are whole numbers, which float16 holds exactly; the positions come in another order.
    assert np.sort(rows.wanted, axis=0) == pytest.approx(np.sort(flat, axis=0), abs=1e-3 * float(np.abs(flat).max()))


def test_values_beyond_float16_are_kept_whole() -> None:
    store = StoredTensor([])
    store.append(np.array([1e5, -3], np.float32))
    store.append(np.array([1, -3], np.float32))
    assert store.batch(0).tolist() == [1e5, -3]
    assert [each.dtype for each in store.batches] == [np.float32, np.float16]


def test_bias_behind_a_relu_matches_the_mean_that_is_handed_on() -> None:
    random = np.random.default_rng(0)
    given = random.normal(size=(4000, 6)).astype(np.float32)
    weight = random.normal(size=(3, 6)).astype(np.float32)
    wanted = given @ weight.T - 1
    rounded = (weight * 0.9).astype(np.float32)
    rows = LayerRows(given, wanted.astype(np.float32), weight, np.full(3, -1, np.float32), Bounds(0.0))
    bias = fit_bias(outputs_of(rows, rounded))
    mean = np.maximum(given @ rounded.T + bias, 0).mean(axis=0)
    assert mean == pytest.approx(np.maximum(wanted, 0).mean(axis=0), rel=0.01)
