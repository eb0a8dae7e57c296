"""The paired comparison: exact where it can be checked, and right about as often as it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from googlenet_deploy.evaluation.statistics import PairedDifference


def test_only_images_that_tell_the_two_apart_count() -> None:
    model = [True, True, False, False, True]
    reference = [True, False, True, False, False]
    difference = PairedDifference.of(model, reference)
    assert difference == PairedDifference(gained=2, lost=1, total=5)
    assert difference.points == pytest.approx(20.0)
    with pytest.raises(ValueError, match="zip"):
        PairedDifference.of([True], [])


@pytest.mark.parametrize(
    ("gained", "lost", "p_value"),
    [(0, 0, 1.0), (1, 1, 1.0), (5, 5, 1.0), (0, 5, 0.0625), (0, 6, 0.03125), (10, 0, 2 / 1024), (2, 9, 0.06542969)],
)
def test_mcnemars_exact_p_value(gained: int, lost: int, p_value: float) -> None:
    difference = PairedDifference(gained, lost, 100)
    assert difference.p_value == pytest.approx(p_value)
    assert difference.is_significant == (p_value < 0.05)


COUNTS = st.integers(0, 60)


@given(COUNTS, COUNTS, COUNTS)
def test_the_interval_holds_the_difference_and_mirrors_with_it(gained: int, lost: int, others: int) -> None:
    total = max(1, gained + lost + others)
    difference, mirrored = PairedDifference(gained, lost, total), PairedDifference(lost, gained, total)
    low, high = difference.interval
    assert -100 <= low <= high <= 100
    assert low - 1e-9 <= 100 * (gained - lost) / (total + 2) <= high + 1e-9
    assert mirrored.interval == pytest.approx((-high, -low))
    assert 0 < difference.p_value == mirrored.p_value <= 1


def test_the_interval_holds_the_truth_in_about_95_of_100_samples() -> None:
    random = np.random.default_rng(0)
    truth = (0.03, 0.05)  # gained, lost
    hits = 0
    for gained, lost, same in random.multinomial(300, [*truth, 1 - sum(truth)], size=2000):
        low, high = PairedDifference(int(gained), int(lost), int(gained + lost + same)).interval
        hits += low <= 100 * (truth[0] - truth[1]) <= high
    assert 0.93 < hits / 2000 < 0.98


def test_more_images_make_it_narrower_and_none_that_differ_leaves_a_width() -> None:
    wide, narrow = PairedDifference(0, 0, 20).interval, PairedDifference(0, 0, 2000).interval
    assert wide[1] > 5 * narrow[1] > 0


def test_in_words() -> None:
    assert str(PairedDifference(1, 4, 500)) == (
        "-0.60 points (95 % interval -1.63 to +0.43; 1 image gained, 4 lost, McNemar p = 0.38)"
    )
