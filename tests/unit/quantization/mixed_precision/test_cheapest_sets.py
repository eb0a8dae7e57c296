"""The knapsack against trying every subset."""

from __future__ import annotations

from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from googlenet_deploy.quantization.mixed_precision.search import STEPS, cheapest_sets

ITEMS = st.lists(st.tuples(st.integers(0, 1000), st.floats(0, 10)), min_size=1, max_size=8)


@given(ITEMS)
def test_no_subset_gains_more_for_less(items: list[tuple[int, float]]) -> None:
    costs, gains = [cost for cost, _ in items], [gain for _, gain in items]
    sets = cheapest_sets(costs, gains)

    def cost(chosen: frozenset[int]) -> int:
        return sum(costs[index] for index in chosen)

    def gain(chosen: frozenset[int]) -> float:
        return sum(gains[index] for index in chosen)

    slack = len(items) * max(sum(costs) / STEPS, 1e-12)  # by which costs are rounded up
    for subset in chain.from_iterable(combinations(range(len(items)), size) for size in range(len(items) + 1)):
        wanted = frozenset(subset)
        assert any(gain(each) >= gain(wanted) - 1e-9 and cost(each) <= cost(wanted) + slack for each in sets)


@given(ITEMS)
def test_sets_rise_in_gain_from_the_empty_one(items: list[tuple[int, float]]) -> None:
    costs, gains = [cost for cost, _ in items], [gain for _, gain in items]
    sets = cheapest_sets(costs, gains)
    totals = [sum(gains[index] for index in chosen) for chosen in sets]
    assert totals == sorted(totals)
    assert len(set(sets)) == len(sets)
    assert totals[-1] == pytest.approx(sum(gains))
    if all(cost > 0 for cost in costs):
        assert sets[0] == frozenset()


def test_many_cheap_items_beat_a_dear_one() -> None:
    sets = cheapest_sets([100, 10, 10, 10], [3.0, 1.2, 1.2, 1.2])
    assert sets[:4] == [frozenset(), frozenset({1}), frozenset({1, 2}), frozenset({1, 2, 3})]
    assert sets[-1] == frozenset({0, 1, 2, 3})
