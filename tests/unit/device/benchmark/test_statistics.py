from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from googlenet_deploy.device.benchmark.statistics import (
    Figure,
    interval,
    over_rounds,
    runs_for,
    student_t,
    summarise,
)

seconds = st.lists(st.floats(1e-5, 10), min_size=1, max_size=60)


@pytest.mark.parametrize(("percentile", "runs"), [(50, 2), (90, 10), (95, 20), (99, 100), (99.9, 1000)])
def test_a_percentile_needs_a_run_beyond_it(percentile: float, runs: int) -> None:
    assert runs_for(percentile) == runs
    enough, too_few = [[0.001] * runs], [[0.001] * (runs - 1)]
    assert summarise(enough).percentiles[f"p{percentile:g}"].value == pytest.approx(1.0)
    missing = summarise(too_few).percentiles[f"p{percentile:g}"]
    assert missing.value is None
    assert missing.missing == f"needs {runs} runs, there were {runs - 1}"


@settings(deadline=None)
@given(st.lists(seconds, min_size=1, max_size=5))
def test_order_and_bounds(rounds: list[list[float]]) -> None:
    summary = summarise(rounds)
    values = [figure.value for figure in summary.percentiles.values() if figure.value is not None]
    assert values == sorted(values)
    assert summary.runs == sum(map(len, rounds))
    for value in (*values, summary.mean.value):
        assert value is not None
        assert summary.lowest * (1 - 1e-9) <= value <= summary.highest * (1 + 1e-9)


def test_milliseconds_mean_and_spread() -> None:
    summary = summarise([[0.001, 0.003], [0.002, 0.006]])
    assert summary.mean.value == pytest.approx(3.0)
    assert summary.mean.rounds == pytest.approx((2.0, 4.0))
    assert summary.std == pytest.approx(float(np.std([1, 3, 2, 6], ddof=1)))
    assert summary.percentiles["p50"].value == pytest.approx(2.5)
    assert summary.percentiles["p50"].rounds == pytest.approx((2.0, 4.0))


def test_a_percentile_that_only_all_rounds_together_support_has_no_interval() -> None:
    figure = summarise([[0.001] * 50, [0.002] * 50]).percentiles["p99"]
    assert figure.value == pytest.approx(2.0)
    assert figure.interval is None
    assert figure.rounds == ()


def test_a_single_run() -> None:
    summary = summarise([[0.004]])
    assert summary.std is None
    assert summary.mean.interval is None


def test_rounds_without_runs_do_not_count() -> None:
    assert summarise([[], [0.001]]).runs == 1
    with pytest.raises(ValueError, match="no runs"):
        summarise([[], []])


def test_students_t() -> None:
    assert student_t(1) == 12.706
    assert student_t(4.9) == 2.776
    assert student_t(0) == 12.706
    # Table values beyond the list.
    assert student_t(40) == pytest.approx(2.021, abs=0.001)
    assert student_t(120) == pytest.approx(1.980, abs=0.001)
    assert student_t(1e9) == pytest.approx(1.960, abs=0.001)
    assert all(student_t(degrees) > student_t(degrees + 1) for degrees in range(1, 60))


def test_the_interval_of_a_textbook_sample() -> None:
    half = 2.776 * math.sqrt(0.5 / 5)
    low, high = interval([math.exp(value) for value in (4.0, 5.0, 6.0, 5.0, 5.0)]) or (0, 0)
    assert (math.log(low), math.log(high)) == pytest.approx((5.0 - half, 5.0 + half))
    assert interval([1.0]) is None


def test_values_that_may_be_negative_have_a_plain_interval() -> None:
    low, high = interval([-1.0, 0.0, 1.0, 0.0, 0.0]) or (0, 0)
    assert (low, high) == pytest.approx((-2.776 * math.sqrt(0.5 / 5), 2.776 * math.sqrt(0.5 / 5)))


@settings(deadline=None)
@given(st.lists(st.floats(1e-300, 1e300), min_size=2, max_size=5))
def test_intervals_of_positive_values_are_positive_and_finite(values: list[float]) -> None:
    low, high = interval(values) or (0, 0)
    assert 0 <= low <= high < math.inf


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_the_interval_covers_the_truth_about_as_often_as_it_says(seed: int) -> None:
    rounds = np.random.default_rng(seed).normal(10.0, 1.0, (400, 5))
    covered = [low <= 10.0 <= high for low, high in (interval(row) or (0, 0) for row in rounds)]
    assert 0.89 <= np.mean(covered) <= 0.99


def test_figures_as_json() -> None:
    assert over_rounds(2.0, [2.0]).to_dict() == {"value": 2.0, "interval_95": None, "rounds": [2.0]}
    assert Figure(None, missing="why").to_dict() == {"value": None, "not_measured": "why"}
    summary = summarise([[0.001, 0.002]]).to_dict()
    assert set(summary) == {"runs", "mean", "std", "lowest", "highest", "p50", "p90", "p95", "p99", "p99.9"}
