"""Histograms lose no count and do not depend on the order, the batches or the merging of what they saw."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from googlenet_deploy.calibration.histogram import BINS, LARGEST_EXPONENT, SMALLEST_EXPONENT, Histogram

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
VALUES = arrays.arrays(np.float32, st.integers(0, 60), elements=FINITE)


def histogram_of(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(part)
    return histogram


def same(first: Histogram, second: Histogram) -> bool:
    return (
        first.exponent == second.exponent
        and np.array_equal(first.counts, second.counts)
        and (first.minimum, first.maximum) == (second.minimum, second.maximum)
    )


@given(VALUES, st.integers(0, 60), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_order_and_batches_do_not_matter(values: np.ndarray, cut: int, random: object) -> None:
    shuffled = values.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert same(histogram_of(values), histogram_of(shuffled[:cut], shuffled[cut:]))


@given(VALUES, VALUES, VALUES)
@settings(max_examples=60, deadline=None)
def test_merging_equals_adding(first: np.ndarray, second: np.ndarray, third: np.ndarray) -> None:
    left, right = histogram_of(first), histogram_of(second, third)
    left.merge(right)
    assert same(left, histogram_of(third, first, second))


@given(VALUES)
@settings(max_examples=60, deadline=None)
def test_no_count_is_lost_and_every_value_lies_in_its_bin(values: np.ndarray) -> None:
    histogram = Histogram()
    for count, value in enumerate(values, start=1):
        histogram.add(value)
        assert histogram.total == count
    if not len(values):
        return
    assert histogram.amax == np.abs(values).max()
    bins = np.floor(values.astype(np.float64) / histogram.width).astype(int) + BINS
    assert np.array_equal(histogram.counts, np.bincount(bins, minlength=2 * BINS))
    sizes = np.bincount((np.where(bins < BINS, BINS - 1 - bins, bins - BINS)), minlength=BINS)
    assert np.array_equal(histogram.magnitudes(), sizes)


def test_the_range_is_the_next_power_of_two_and_only_grows() -> None:
    histogram = histogram_of(np.array([0.3], np.float32))
    assert histogram.exponent == -1
    histogram.add(np.array([0.1], np.float32))
    assert histogram.exponent == -1
    histogram.add(np.array([-8.0], np.float32))
    assert histogram.exponent == 4, "a power of two itself lies outside the range below it"
    assert histogram.counts[0] == 0
    assert histogram.counts[BINS // 2] == 1
    assert histogram.total == 3


def test_extreme_values_are_counted() -> None:
    largest = np.finfo(np.float32).max
    histogram = histogram_of(np.array([largest, -largest, 1e-44, -1e-44, 0.0, -0.0], np.float32))
    assert histogram.exponent == LARGEST_EXPONENT
    assert histogram.total == 6
    assert histogram.counts[-1] == histogram.counts[0] == 1
    assert histogram_of(np.array([1e-40], np.float32)).exponent == SMALLEST_EXPONENT


def test_a_large_array_is_counted_block_by_block() -> None:
    values = np.random.default_rng(0).standard_normal((3, 70_000)).astype(np.float32)
    for sample in (values, np.abs(values)):
        expected = np.bincount((np.floor(sample.ravel() / histogram_of(sample).width) + BINS).astype(int))
        assert np.array_equal(np.trim_zeros(histogram_of(sample).counts, "b"), np.trim_zeros(expected, "b"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused_and_nothing_is_counted(bad: float) -> None:
    histogram = histogram_of(np.array([1.0], np.float32))
    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        histogram.add(np.array([5.0, bad], np.float32))
    assert same(histogram, histogram_of(np.array([1.0], np.float32)))


def test_nothing_seen_is_an_empty_histogram() -> None:
    histogram = histogram_of(np.zeros((0, 3), np.float32))
    assert (histogram.amax, histogram.total) == (0.0, 0)


@given(VALUES)
@settings(max_examples=30, deadline=None)
def test_stored_and_read_again(values: np.ndarray) -> None:
    histogram = histogram_of(values)
    assert same(Histogram.from_arrays(histogram.to_arrays()), histogram)


def test_arrays_of_another_shape_are_refused() -> None:
    stored = histogram_of(np.ones(3, np.float32)).to_arrays()
    with pytest.raises(ValueError, match="another shape"):
        Histogram.from_arrays({**stored, "counts": stored["counts"][1:]})
    with pytest.raises(ValueError, match="another shape"):
        Histogram.from_arrays({**stored, "counts": stored["counts"].astype(np.int32)})
