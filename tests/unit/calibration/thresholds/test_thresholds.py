"""Each threshold method against its definition, and rules that hold for all of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from googlenet_deploy.calibration.histogram import BINS, Histogram
from googlenet_deploy.calibration.thresholds.entropy import (
    ENTROPY_BINS,
    LEVELS,
    entropy_threshold,
    resample,
)
from googlenet_deploy.calibration.thresholds.error import share_above, squared_error
from googlenet_deploy.calibration.thresholds.max import max_threshold
from googlenet_deploy.calibration.thresholds.mse import mse_threshold
from googlenet_deploy.calibration.thresholds.percentile import percentile_threshold
from googlenet_deploy.calibration.thresholds.select import SHARES, choose_threshold
from googlenet_deploy.errors import UsageError

METHODS = {
    "max": max_threshold,
    "percentile": percentile_threshold,
    "entropy": entropy_threshold,
    "mse": mse_threshold,
}
SHAPES = {
    "normal": lambda random, count: random.standard_normal(count),
    "half zero": lambda random, count: np.maximum(random.standard_normal(count), 0),
    "long tail": lambda random, count: random.standard_t(2, count),
    "uniform": lambda random, count: random.uniform(-1, 3, count),
    "one outlier": lambda random, count: np.append(random.standard_normal(count), 1e4),
    "two values": lambda random, count: random.choice([0.0, 2.5], count),
    "constant": lambda _random, count: np.full(count, 0.7),
    "mostly zero": lambda random, count: np.append(np.zeros(count), 3.0),
}


def sample(shape: str, seed: int = 0, count: int = 4000, scale: float = 1.0) -> np.ndarray:
    values = SHAPES[shape](np.random.default_rng(seed), count) * scale
    return np.asarray(values, np.float32)


def histogram_of(values: np.ndarray) -> Histogram:
    histogram = Histogram()
    histogram.add(values)
    return histogram


@pytest.mark.parametrize("method", METHODS)
@given(st.sampled_from(list(SHAPES)), st.integers(0, 99), st.integers(1, 400), st.sampled_from([1e-30, 1.0, 1e20]))
@settings(max_examples=25, deadline=None)
def test_every_threshold_lies_above_zero_and_not_beyond_the_largest_value(
    method: str, shape: str, seed: int, count: int, scale: float
) -> None:
    histogram = histogram_of(sample(shape, seed, count, scale))
    threshold = METHODS[method](histogram)
    assert (0 < threshold <= histogram.amax) or histogram.amax == threshold == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_that_is_always_zero_has_the_threshold_zero(method: str) -> None:
    assert METHODS[method](histogram_of(np.zeros(5, np.float32))) == 0.0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", ["normal", "half zero", "long tail"])
def test_thresholds_scale_with_the_values(method: str, shape: str) -> None:
    once, larger = (METHODS[method](histogram_of(sample(shape, scale=scale))) for scale in (1.0, 1024.0))
    assert larger == pytest.approx(1024 * once, rel=1e-6)


def slow_divergences(counts: np.ndarray) -> np.ndarray:
    """Migacz's slides, threshold by threshold: KL(P || Q) behind 128, 129, ... bins."""
    results = []
    for end in range(LEVELS, len(counts) + 1):
        reference = counts[:end].copy()
        reference[-1] += counts[end:].sum()
        edges = end * np.arange(LEVELS + 1) // LEVELS
        filled = counts[:end] > 0
        sums, sizes = (np.add.reduceat(part.astype(float), edges[:-1]) for part in (counts[:end], filled))
        level = np.divide(sums, sizes, out=np.zeros(LEVELS), where=sizes > 0)
        spread = np.where(filled, np.repeat(level, np.diff(edges)), 0.0)
        if spread.sum() == 0:
            results.append(np.inf)
            continue
        p, q = reference / reference.sum(), spread / spread.sum()
        missing = (p > 0) & (q == 0)
        both = (p > 0) & ~missing
        results.append(np.inf if missing.any() else float((p[both] * np.log(p[both] / q[both])).sum()))
    return np.array(results)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("shape", ["normal", "half zero", "long tail", "two values", "one outlier", "mostly zero"])
def test_entropy_is_that_of_a_slow_reference(shape: str, seed: int) -> None:
    histogram = histogram_of(sample(shape, seed, 3000))
    counts = resample(histogram, ENTROPY_BINS)
    counts[0] = counts[1]
    expected = slow_divergences(counts)
    threshold = entropy_threshold(histogram)
    chosen = round(threshold / histogram.amax * ENTROPY_BINS) - LEVELS
    assert expected[chosen] == pytest.approx(expected.min(), rel=1e-9, abs=1e-12)
    ties = np.flatnonzero(expected <= expected.min() + 1e-12)
    assert chosen == ties[-1], "of equal thresholds the largest clips least"


def test_entropy_clips_a_long_tail_and_leaves_a_uniform_tensor_whole() -> None:
    tail = histogram_of(np.append(sample("normal", count=200_000), np.float32(30.0)))
    flat = histogram_of(sample("uniform", count=200_000))
    assert entropy_threshold(tail) < 0.2 * tail.amax
    assert entropy_threshold(flat) > 0.9 * flat.amax


@pytest.mark.parametrize("bins", [7, 128, 2048])
def test_resampling_keeps_the_total_and_follows_the_values(bins: int) -> None:
    values = sample("long tail")
    histogram = histogram_of(values)
    counts = resample(histogram, bins)
    assert counts.sum() == pytest.approx(len(values))
    exact, _ = np.histogram(np.abs(values), bins=bins, range=(0, float(np.abs(values).max())))
    # A bin of the resampled histogram is off by what lies in the fine bins that its two edges cut.
    assert np.abs(np.cumsum(counts) - np.cumsum(exact)).max() <= histogram.magnitudes().max()


@given(st.floats(1, 100), st.sampled_from(["normal", "half zero", "long tail", "uniform"]))
@settings(max_examples=40, deadline=None)
def test_a_percentile_keeps_that_share_of_the_values(percent: float, shape: str) -> None:
    values = sample(shape)
    histogram = histogram_of(values)
    threshold = percentile_threshold(histogram, percent)
    sizes = np.sort(np.abs(values))
    at = min(len(sizes) - 1, max(0, int(np.ceil(len(sizes) * percent / 100)) - 1))
    assert abs(threshold - sizes[at]) <= histogram.width, "exact to a bin"


def test_a_percentile_of_100_is_the_largest_value() -> None:
    histogram = histogram_of(sample("long tail"))
    assert percentile_threshold(histogram, 100) == histogram.amax


@pytest.mark.parametrize("percent", [0, -1, 100.01, float("nan")])
def test_an_impossible_percentile_is_refused(percent: float) -> None:
    with pytest.raises(UsageError, match="percentile"):
        percentile_threshold(histogram_of(sample("normal")), percent)


def direct_error(values: np.ndarray, amax: float) -> float:
    step = amax / 127
    restored = np.clip(np.rint(values / step), -127, 127) * step
    return float(((values - restored) ** 2).sum())


@pytest.mark.parametrize("shape", ["normal", "half zero", "long tail", "uniform"])
@pytest.mark.parametrize("share", [1.0, 0.6, 0.2])
def test_the_squared_error_is_that_of_quantising_the_values(shape: str, share: float) -> None:
    values = sample(shape, count=100_000)
    histogram = histogram_of(values)
    amax = share * histogram.amax
    error = squared_error(histogram, amax)
    assert error.rounding + error.clipping == pytest.approx(direct_error(values.astype(np.float64), amax), rel=0.05)
    assert error.signal == pytest.approx(float((values.astype(np.float64) ** 2).sum()), rel=1e-2)


def test_rounding_and_clipping_are_told_apart() -> None:
    histogram = histogram_of(np.array([1.0] * 10 + [10.0], np.float32))
    assert squared_error(histogram, 10.1).clipping == 0
    clipped = squared_error(histogram, 2.0)
    assert clipped.clipping == pytest.approx(64, rel=0.01)
    assert clipped.rounding < 0.01


def test_decibels_end_at_200() -> None:
    exact = squared_error(histogram_of(np.zeros(4, np.float32)), 1.0)
    assert exact.decibels == 200.0


@pytest.mark.parametrize("shape", ["normal", "half zero", "long tail", "uniform", "two values"])
def test_mse_finds_the_smallest_error(shape: str) -> None:
    values = sample(shape, count=20_000)
    histogram = histogram_of(values)
    found = direct_error(values.astype(np.float64), mse_threshold(histogram))
    best = min(direct_error(values.astype(np.float64), share * histogram.amax) for share in np.linspace(0.02, 1, 300))
    assert found <= 1.03 * best + 1e-9


def test_the_share_of_clipped_values_is_counted() -> None:
    histogram = histogram_of(np.arange(1000, dtype=np.float32))
    assert share_above(histogram, 2000.0) == 0.0
    assert share_above(histogram, 899.5) == pytest.approx(0.1, abs=0.002)
    assert share_above(Histogram(), 1.0) == 0.0


def folds_of(values: np.ndarray) -> list[Histogram]:
    return [histogram_of(values[0::2]), histogram_of(values[1::2])]


@pytest.mark.parametrize("shape", list(SHAPES))
def test_auto_is_never_worse_than_any_method_by_its_own_measure(shape: str) -> None:
    choice = choose_threshold(folds_of(sample(shape)))
    assert choice.decibels["auto"] >= max(choice.decibels[name] for name in METHODS) - 1e-9
    assert 0 < choice.amax["auto"] <= choice.amax["max"]
    assert choice.rule in METHODS or choice.rule in {f"{share:.2f} of max" for share in SHARES}


def test_auto_applies_its_rule_to_all_images() -> None:
    values = sample("long tail")
    choice = choose_threshold(folds_of(values))
    whole = histogram_of(values)
    name, _, kind = choice.rule.partition(" of ")
    expected: float = float(name) * whole.amax if kind else METHODS[name](whole)
    assert choice.amax["auto"] == pytest.approx(expected)
    assert all(choice.amax[name] == METHODS[name](whole) for name in METHODS)


@pytest.mark.parametrize(
    ("folds", "factor"),
    [
        ([[1.0] * 128, [1.0] * 128], 2.0),  # 1 + 16 / sqrt(256)
        ([[1.0] * 512, [1.0] * 512], 1.5),  # 1 + 16 / sqrt(1024)
        ([[1.0] * 512, [1.8] * 512], 1.8),  # one fold exceeds the other
        ([[1.0] * 512, [9.0] * 512], 2.0),  # at most one bit
        ([[-1.0] * 50, [1.0] * 50], 2.0),
        ([[1.0] * 1024, [1.0] * 1024], 1.0),  # enough values
    ],
)
def test_few_values_have_headroom(folds: list[list[float]], factor: float) -> None:
    choice = choose_threshold([histogram_of(np.asarray(fold, np.float32)) for fold in folds])
    largest = max(abs(value) for fold in folds for value in fold)
    assert choice.amax["auto"] == pytest.approx(factor * largest, rel=2e-3)
    assert choice.amax["max"] == pytest.approx(largest, rel=1e-6)


def test_auto_judges_on_the_fold_that_the_rule_did_not_see() -> None:
    # Clipping at the narrow fold's largest value would ruin the wide one, which only the other fold can tell.
    narrow, wide = histogram_of(sample("uniform", scale=1.0)), histogram_of(sample("uniform", scale=4.0))
    choice = choose_threshold([narrow, wide])
    assert choice.amax["auto"] > 0.8 * wide.amax
    assert choice.decibels["auto"] < choose_threshold([wide, wide]).decibels["auto"]


@pytest.mark.parametrize("other", [Histogram(), histogram_of(np.zeros(3, np.float32))])
def test_auto_works_where_one_fold_has_nothing(other: Histogram) -> None:
    choice = choose_threshold([histogram_of(sample("normal")), other])
    assert 0 < choice.amax["auto"] <= choice.amax["max"]


def test_auto_of_a_zero_tensor_is_zero() -> None:
    choice = choose_threshold([Histogram(), Histogram()])
    assert set(choice.amax.values()) == {0.0}
    assert choice.decibels == {}


def test_the_percentile_reaches_the_percentile_method() -> None:
    folds = folds_of(sample("long tail"))
    first, second = choose_threshold(folds, 90.0), choose_threshold(folds, 99.0)
    assert first.amax["percentile"] < second.amax["percentile"]
    assert first.amax["entropy"] == second.amax["entropy"]


def test_thresholds_do_not_change_when_the_range_has_grown_for_another_tensor() -> None:
    """Merged into an empty histogram of a wider range, the same values have the same thresholds, to a bin."""
    values = sample("half zero", count=50_000)
    plain, wide = histogram_of(values), Histogram(exponent=histogram_of(values).exponent + 2)
    wide.merge(plain)
    assert wide.width == 4 * plain.width
    methods: dict[str, Callable[[Histogram], float]] = dict(METHODS)
    for name, method in methods.items():
        assert method(wide) == pytest.approx(method(plain), rel=0.05), name
    assert wide.magnitudes().shape == (BINS,)
