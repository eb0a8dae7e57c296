"""Each layer alone: the same figures as running the whole network with that one layer quantised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from googlenet_deploy.calibration.options import PlacementOptions
from googlenet_deploy.calibration.table import CalibrationTable
from googlenet_deploy.device.images.sources import find_images
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import BadModelError
from googlenet_deploy.quantization.accuracy_probe import HoldOutEvaluation
from googlenet_deploy.quantization.mixed_precision.sensitivity import LayerSensitivity, measure_sensitivity
from googlenet_deploy.quantization.quantized_model import QuantizedModel, keep_in_float, round_to_nearest


@pytest.fixture(scope="module")
def quantized(mini: Callable, mini_table: CalibrationTable) -> QuantizedModel:
    """The small GoogLeNet, quantised."""
    return round_to_nearest(mini(), mini_table)


@pytest.fixture(scope="module")
def hold_out(mini: Callable, specification: Preprocessing, picture_folder: Path) -> HoldOutEvaluation:
    """Sixteen pictures."""
    return HoldOutEvaluation(mini(), specification, find_images([picture_folder]).images[:16])


@pytest.fixture(scope="module")
def layers(quantized: QuantizedModel, hold_out: HoldOutEvaluation) -> list[LayerSensitivity]:
    """All layers of it."""
    return measure_sensitivity(quantized, hold_out, quiet=True)


def test_every_layer_in_graph_order(quantized: QuantizedModel, layers: list[LayerSensitivity]) -> None:
    assert [layer.name for layer in layers] == [node.name for node in quantized.plan.nodes]
    assert {layer.operator for layer in layers} == {"Conv", "Gemm"}


def test_as_if_the_whole_network_had_been_run(
    quantized: QuantizedModel, hold_out: HoldOutEvaluation, layers: list[LayerSensitivity]
) -> None:
    for layer in layers:
        others = {each.name: "" for each in layers if each.name != layer.name}
        agreement = hold_out.measure(keep_in_float(quantized, others).build()).agreement
        assert layer.sqnr == pytest.approx(agreement.sqnr, abs=0.3), layer.name
        assert layer.divergence == pytest.approx(agreement.mean_divergence, rel=0.2, abs=1e-6)
        assert layer.agreement == agreement.proportion.percent
        assert layer.noise == pytest.approx(10 ** (-layer.sqnr / 10))


def test_what_it_saves(layers: list[LayerSensitivity]) -> None:
    found = {layer.name: layer for layer in layers}
    first = found["conv1/conv"]
    assert first.multiply_adds == 8 * 8 * 8 * 3 * 5 * 5
    assert first.bytes == 8 * 3 * 5 * 5 + 8 + 8 * 8 * 8
    assert found["logits"].multiply_adds == 20 * 6


def test_errors_of_layers_add_up(
    quantized: QuantizedModel, hold_out: HoldOutEvaluation, layers: list[LayerSensitivity]
) -> None:
    together = hold_out.measure(quantized.build()).agreement
    assert sum(layer.noise for layer in layers) == pytest.approx(together.noise / together.signal, rel=0.5)


def test_some_images_and_fixed_batches(
    mini: Callable, mini_table: CalibrationTable, specification: Preprocessing, picture_folder: Path
) -> None:
    sources = find_images([picture_folder]).images[:8]
    free = measure_sensitivity(
        round_to_nearest(mini(), mini_table), HoldOutEvaluation(mini(), specification, sources), 4, quiet=True
    )
    fixed = mini(batch=4)
    other = measure_sensitivity(
        round_to_nearest(fixed, mini_table), HoldOutEvaluation(fixed, specification, sources), 4, quiet=True
    )
    for one, same in zip(free, other, strict=True):
        assert one.sqnr == pytest.approx(same.sqnr, abs=0.3)


@pytest.mark.parametrize("options", [{"quantize_input": False}, {"quantize_classifier": False}, {"dla": True}], ids=str)
def test_other_placements(
    mini: Callable,
    mini_table: CalibrationTable,
    hold_out: HoldOutEvaluation,
    layers: list[LayerSensitivity],
    options: dict[str, bool],
) -> None:
    quantized = round_to_nearest(mini(), mini_table, PlacementOptions(**options))
    found = measure_sensitivity(quantized, hold_out, quiet=True)
    assert [layer.name for layer in found] == [node.name for node in quantized.plan.nodes]
    expected = {layer.name: layer.sqnr for layer in layers}
    assert all(layer.sqnr == pytest.approx(expected[layer.name], abs=1.0) for layer in found)


def test_refined_weights_and_biases_are_what_is_measured(
    quantized: QuantizedModel, hold_out: HoldOutEvaluation, layers: list[LayerSensitivity]
) -> None:
    name = "inception3a/branch1/conv"
    coarse = replace(quantized.weights[name], values=quantized.weights[name].values // 8 * 8)
    found = measure_sensitivity(replace(quantized, weights={**quantized.weights, name: coarse}), hold_out, quiet=True)
    before, after = ({layer.name: layer.sqnr for layer in each} for each in (layers, found))
    assert after[name] < before[name] - 5
    assert all(after[other] == before[other] for other in before if other != name)


class TestKeepInFloat:
    """A quantised model of which some layers stay in float."""

    def test_the_others_keep_what_they_have(self, quantized: QuantizedModel) -> None:
        biases = {"logits": quantized.weights["logits"].scales, "conv2/conv": quantized.weights["conv2/conv"].scales}
        less = keep_in_float(replace(quantized, biases=biases), {"conv2/conv": "it is dear"})
        assert less.plan.skipped == {"conv2/conv": "it is dear"}
        assert set(less.weights) == set(quantized.weights) - {"conv2/conv"}
        assert set(less.biases) == {"logits"}
        assert set(less.scales) == set(quantized.scales) - {"norm1"}
        assert all(less.scales[name] == quantized.scales[name] for name in less.scales)

    def test_twice(self, quantized: QuantizedModel) -> None:
        less = keep_in_float(keep_in_float(quantized, {"conv2/conv": "first"}), {"conv3/conv": "second"})
        assert set(less.plan.skipped) == {"conv2/conv", "conv3/conv"}
        assert less.plan.skipped["conv3/conv"] == "second"

    def test_everything_is_refused(self, quantized: QuantizedModel) -> None:
        with pytest.raises(BadModelError, match="nothing in it can be quantised"):
            keep_in_float(quantized, {node.name: "" for node in quantized.plan.nodes})
