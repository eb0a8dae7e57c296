from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from googlenet_deploy.evaluation.statistics import Proportion, top_k_correct, wilson_interval


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [
        # From Newcombe 1998, "Two-sided confidence intervals for the single proportion", Table I, method 3.
        (81, 263, 25.53, 36.62),
        (15, 148, 6.24, 16.05),
        (0, 20, 0.00, 16.11),
        (1, 29, 0.61, 17.18),
    ],
)
def test_wilson_interval_of_published_examples(successes: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(successes, total) == pytest.approx((low, high), abs=0.005)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_stays_in_range(counts: tuple[int, int]) -> None:
    share = Proportion(*counts)
    low, high = share.interval
    assert 0 <= low <= share.percent <= high <= 100
    failures = Proportion(counts[1] - counts[0], counts[1]).interval
    assert (100 - failures[1], 100 - failures[0]) == pytest.approx((low, high), abs=1e-9)


def test_sentence() -> None:
    assert str(Proportion(372, 500)) == "74.4 % (95 % interval 70.4 to 78.0, 372 of 500)"


def test_top_k() -> None:
    indices, labels = np.array([[3, 1, 2], [0, 1, 2], [5, 4, 3]]), np.array([3, 2, 0])
    assert top_k_correct(indices, labels, 1).tolist() == [True, False, False]
    assert top_k_correct(indices, labels, 3).tolist() == [True, True, False]
    assert top_k_correct(indices, labels, 9).tolist() == [True, True, False]
