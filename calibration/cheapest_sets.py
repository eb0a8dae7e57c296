"""Which layers bring the most for so many multiply-adds: the 0/1 knapsack problem, for every capacity at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

# Costs are rounded up to a four-thousandth of their sum, finer than any layer but the classifier.
STEPS = 4000


def cheapest_sets(costs: Sequence[int], gains: Sequence[float]) -> list[frozenset[int]]:
    """Sets of items that gain more than every set that costs less, from the empty one to all that gain anything.

    Dynamic programming over capacities (Bellman 1957; Kellerer, Pferschy and Pisinger 2004, "Knapsack Problems",
    section 2.3).

    Args:
        costs: Of each item, 0 or above.
        gains: Of each item, 0 or above.

    Returns:
        Sets of positions, by rising cost and gain; the gain of a set is the sum of its items'.
    """
    unit = max(sum(costs) / STEPS, 1e-12)
    sizes = [int(np.ceil(cost / unit)) for cost in costs]
    capacity = sum(sizes)
    best = np.zeros(capacity + 1)
    taken = np.zeros((len(costs), capacity + 1), bool)
    for item, (size, gain) in enumerate(zip(sizes, gains, strict=True)):
        with_item = np.full(capacity + 1, -np.inf)
        with_item[size:] = best[: capacity + 1 - size] + gain
        taken[item] = with_item > best
        best = np.maximum(best, with_item)
    sets: list[frozenset[int]] = []
    reached = -1.0
    for room in range(capacity + 1):
        if best[room] > reached:
            reached = float(best[room])
            sets.append(_items(taken, sizes, room))
    return sets


def _items(taken: np.ndarray, sizes: Sequence[int], room: int) -> frozenset[int]:
    chosen = []
    for item in reversed(range(len(sizes))):
        if taken[item, room]:
            chosen.append(item)
            room -= sizes[item]
    return frozenset(chosen)
