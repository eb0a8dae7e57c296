"""Scales of weights by mean squared error."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from googlenet_deploy.calibration.table import CalibrationTable
from googlenet_deploy.quantization.quantized_model import round_to_nearest
from googlenet_deploy.quantization.refine.weight_mse import choose_weight_scales, mse_scales
from googlenet_deploy.quantization.weights import max_scales, quantize_weight


def error(weight: np.ndarray, scales: np.ndarray, axis: int) -> np.ndarray:
    others = tuple(index for index in range(weight.ndim) if index != axis)
    return np.asarray(np.square(quantize_weight(weight, scales, axis).dequantize() - weight).sum(axis=others))


@given(st.integers(0, 10**6), st.sampled_from([0, 1]), st.sampled_from(["normal", "laplace", "uniform"]))
@settings(max_examples=40, deadline=None)
def test_never_a_larger_error_nor_a_larger_scale(seed: int, axis: int, kind: str) -> None:
    random = np.random.default_rng(seed)
    weight = getattr(random, kind)(size=(5, 7)).astype(np.float32)
    plain, chosen = max_scales(weight, axis), mse_scales(weight, axis)
    assert chosen.shape == plain.shape
    assert (chosen <= plain).all()
    assert (error(weight, chosen, axis) <= error(weight, plain, axis) + 1e-12).all()


def test_a_lone_outlier_is_clipped() -> None:
    weight = np.linspace(-1, 1, 100_000, dtype=np.float32).reshape(1, -1)
    weight[0, 0] = 1.3
    assert mse_scales(weight)[0] < 0.85 * max_scales(weight)[0]


def test_channel_of_zeros_keeps_scale_one() -> None:
    assert mse_scales(np.zeros((2, 3), np.float32)).tolist() == [1, 1]


def test_draft_gets_the_scales_and_a_note(mini: Callable, mini_table: CalibrationTable) -> None:
    quantized = round_to_nearest(mini(), mini_table)
    result = choose_weight_scales(quantized)
    name = "conv3"
    node = next(node for node in quantized.plan.nodes if "conv3" in node.name)
    assert (result.weights[node.name].scales <= quantized.weights[node.name].scales).all()
    assert "channels clipped" in result.notes["weight scales"]
    assert result.scales == quantized.scales, name
