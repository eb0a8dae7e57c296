"""Weights as integers: symmetric, one scale per output channel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from googlenet_deploy.calibration.placement import place
from googlenet_deploy.graph.graph import GraphView
from googlenet_deploy.quantization.weights import max_scales, quantize_weight, quantize_weights

WEIGHTS = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=4, max_side=4),
    elements=st.floats(-1e6, 1e6, width=32),
)


@given(WEIGHTS, st.integers(0, 1))
@settings(max_examples=60, deadline=None)
def test_no_weight_is_off_by_more_than_half_a_step(weight: np.ndarray, axis: int) -> None:
    quantised = quantize_weight(weight, axis=axis)
    shape = [1] * weight.ndim
    shape[axis] = -1
    steps = quantised.scales.reshape(shape)
    assert np.all(np.abs(quantised.dequantize() - weight) <= steps * 0.5001)
    assert quantised.values.dtype == np.int8
    assert quantised.values.min() >= -127
    assert quantised.scales.shape == (weight.shape[axis],)
    assert quantised.scales.dtype == np.float32
    assert np.all(quantised.scales > 0)


def test_the_largest_weight_of_each_channel_is_exact() -> None:
    weight = np.random.default_rng(0).standard_normal((5, 3, 3, 3)).astype(np.float32)
    values = quantize_weight(weight).values
    assert np.array_equal(np.abs(values).reshape(5, -1).max(axis=1), np.full(5, 127))


def test_a_channel_of_zeros_has_a_scale_that_divides() -> None:
    weight = np.array([[0.0, 0.0], [1e-42, 0.0], [2.0, -1.0]], np.float32)
    scales = max_scales(weight)
    assert scales.tolist() == [1.0, 1.0, np.float32(2 / 127)]
    assert np.array_equal(quantize_weight(weight).values[:2], np.zeros((2, 2), np.int8))


def test_given_scales_clip() -> None:
    quantised = quantize_weight(np.array([[1.0, -9.0, 0.25, 0.75]], np.float32), np.array([0.5], np.float32))
    assert quantised.values.tolist() == [[2, -18, 0, 2]], "halves go to the even code, as in ONNX"
    clipped = quantize_weight(np.array([[-1000.0, 1000.0]], np.float32), np.array([1.0], np.float32))
    assert clipped.values.tolist() == [[-127, 127]]


def test_every_layer_of_a_plan_with_its_axis(mini: Callable) -> None:
    graph = GraphView(mini())
    plan = place(graph)
    given_scales = {"conv2/conv": np.full(8, 0.5, np.float32)}
    weights = quantize_weights(graph, plan, given_scales)
    assert list(weights) == [node.name for node in plan.nodes]
    assert np.array_equal(weights["conv2/conv"].scales, given_scales["conv2/conv"])
    kernel = graph.constant("conv1.weight")
    assert weights["conv1/conv"].dequantize() == pytest.approx(kernel, abs=float(np.abs(kernel).max()) / 254 * 1.001)
