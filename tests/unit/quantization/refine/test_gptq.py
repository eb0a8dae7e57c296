"""Coordinate descent: never worse than rounding to the nearest, optimal where that can be enumerated."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from googlenet_deploy.quantization.refine.gptq import best_weights, feed_back, learn_codes, measure_moments
from googlenet_deploy.quantization.refine.im2col import Bounds, LayerRows
from googlenet_deploy.quantization.weights import max_scales


def layer(seed: int, inputs: int = 9, outputs: int = 4, rows: int = 300, noise: float = 0.0) -> LayerRows:
    """A layer whose inputs depend on each other, as those of a network do."""
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(inputs, inputs)) / np.sqrt(inputs)
    wanted = random.normal(1, 1, (rows, inputs)) @ mixing
    given = wanted + noise * random.normal(size=wanted.shape)
    weight = random.normal(size=(outputs, inputs)).astype(np.float32)
    bias = random.normal(size=outputs).astype(np.float32)
    return LayerRows(given.astype(np.float32), (wanted @ weight.T + bias).astype(np.float32), weight, bias, Bounds(0.0))


def coarse(weight: np.ndarray) -> np.ndarray:
    """Scales as of 4 bits, so that rounding matters."""
    return np.asarray(max_scales(weight) * np.float32(127 / 7))


def centred_error(rows: LayerRows, weight: np.ndarray) -> np.ndarray:
    """Mean squared error of each output with the best bias."""
    error = rows.given @ weight.T - rows.wanted
    return np.asarray(np.square(error - error.mean(axis=0)).mean(axis=0))


@given(st.integers(0, 10**6), st.sampled_from([3, 9, 70, 130]))
@settings(max_examples=25, deadline=None)
def test_never_worse_than_rounding_to_the_nearest(seed: int, inputs: int) -> None:
    rows = layer(seed, inputs)
    moments, scales = measure_moments(rows), coarse(rows.weight)
    codes = learn_codes(moments, moments.weight, scales, 0.0)
    nearest = np.rint(rows.weight / scales[:, None])
    errors = [centred_error(rows, (values * scales[:, None]).astype(np.float32)) for values in (nearest, codes)]
    assert (errors[1] <= errors[0] * 1.001 + 1e-6).all()


@given(st.integers(0, 10**6), st.sampled_from([1, 5, 64, 65, 130]))
@settings(max_examples=25, deadline=None)
def test_codes_keep_their_range(seed: int, inputs: int) -> None:
    rows = layer(seed, inputs)
    codes = learn_codes(measure_moments(rows), measure_moments(rows).weight, max_scales(rows.weight), 0.01)
    assert codes.dtype == np.int8
    assert codes.shape == rows.weight.shape
    assert np.abs(codes.astype(int)).max() <= 127


@pytest.mark.parametrize("inputs", [9, 64, 100, 200])
def test_feeding_back_in_blocks_is_the_same_as_one_by_one(inputs: int) -> None:
    moments, scales = measure_moments(layer(2, inputs, rows=500)), np.full(4, 0.2, np.float32)
    quadratic = moments.inputs + 0.5 * np.eye(inputs, dtype=np.float32)
    inverse = np.linalg.inv(quadratic.astype(np.float64))
    left, codes = moments.weight.astype(np.float64), np.empty(moments.weight.shape)
    for k in range(inputs):  # Optimal Brain Surgeon, step by step: equations 2 and 3 of the GPTQ paper
        codes[k] = np.clip(np.rint(left[k] / scales), -127, 127)
        left -= np.outer(inverse[:, k], (left[k] - codes[k] * scales) / inverse[k, k])
        inverse -= np.outer(inverse[:, k], inverse[k]) / inverse[k, k]
        inverse[k, k] = 1
    # Float32 lets a weight at the edge of two codes fall to either, and those behind it follow.
    assert (feed_back(quadratic, moments.weight, scales) == codes).mean() > 0.98


def test_no_single_change_of_a_code_is_better() -> None:
    rows = layer(3, inputs=8)
    moments, scales = measure_moments(rows), coarse(rows.weight)
    codes = learn_codes(moments, moments.weight, scales, 0.0, sweeps=50).astype(np.float32)
    reached = centred_error(rows, codes * scales[:, None])
    for position, step in itertools.product(range(8), (-1, 1)):
        other = codes.copy()
        other[:, position] += step
        assert (centred_error(rows, other * scales[:, None]) >= reached * (1 - 1e-4)).all()


def test_inputs_that_are_alike_share_their_rounding_errors() -> None:
    random = np.random.default_rng(4)
    common = random.normal(size=(500, 1))
    given = (common + 0.02 * random.normal(size=(500, 16))).astype(np.float32)
    weight = random.normal(size=(3, 16)).astype(np.float32)
    rows = LayerRows(given, given @ weight.T, weight, np.zeros(3, np.float32), None)
    scales = coarse(weight)
    codes = learn_codes(measure_moments(rows), measure_moments(rows).weight, scales, 0.001)
    nearest = np.rint(weight / scales[:, None])
    errors = [centred_error(rows, (values * scales[:, None]).astype(np.float32)) for values in (nearest, codes)]
    assert errors[1].sum() < errors[0].sum() / 10


def test_order_of_the_inputs_does_not_show_in_the_codes() -> None:
    rows = layer(5)
    scales = coarse(rows.weight)
    turned = LayerRows(rows.given[:, ::-1], rows.wanted, rows.weight[:, ::-1], rows.bias, rows.bounds)
    plain, reversed_ = (learn_codes(m, m.weight, scales, 0.01) for m in map(measure_moments, (rows, turned)))
    assert np.array_equal(plain, reversed_[:, ::-1])


def test_best_weights_make_up_for_noise_of_the_inputs() -> None:
    rows = layer(7, noise=0.3)
    moments = measure_moments(rows)
    restored = np.empty_like(moments.weight)
    restored[moments.order] = best_weights(moments, 1e-6)
    assert (centred_error(rows, restored.T) < centred_error(rows, rows.weight)).all()


def test_damping_leads_from_the_best_weights_to_the_float_ones() -> None:
    moments = measure_moments(layer(8, noise=0.3))
    distances = [np.abs(best_weights(moments, damping) - moments.weight).max() for damping in (0.01, 1, 100, np.inf)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] == 0


@pytest.mark.parametrize("seed", range(3))
def test_inputs_that_are_always_zero_round_to_the_nearest(seed: int) -> None:
    rows = layer(seed)
    rows.given[:, 2] = 0
    scales = coarse(rows.weight)
    codes = learn_codes(measure_moments(rows), measure_moments(rows).weight, scales, 0.01)
    assert np.array_equal(codes[:, 2], np.rint(rows.weight[:, 2] / scales))


def test_layer_whose_inputs_never_vary_rounds_to_the_nearest() -> None:
    rows = layer(1)
    rows.given[:] = 3
    scales = coarse(rows.weight)
    codes = learn_codes(measure_moments(rows), measure_moments(rows).weight, scales, 0.01)
    assert np.array_equal(codes, np.rint(rows.weight / scales[:, None]))


def test_pruned_weights_stay_zero() -> None:
    rows = layer(6, inputs=80)
    rows.weight[:, ::2] = 0
    scales = coarse(rows.weight)
    codes = learn_codes(measure_moments(rows), measure_moments(rows).weight, scales, 0.01)
    assert not codes[:, ::2].any()
    assert codes[:, 1::2].any()
