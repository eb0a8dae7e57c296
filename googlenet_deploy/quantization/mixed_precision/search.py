"""Leaves the fewest multiply-adds in float that keep an accuracy budget.

Errors of layers that are quantised alone add up: on the BVLC net their sum predicts the noise of all of them together
to 0.3 dB, their divergences to 2 %. So for every number of multiply-adds the best set of layers to leave in float is
a knapsack problem that is solved exactly (`cheapest_sets`). Bisection along these sets, from none to all, finds the
first that keeps the budget; every set that is tried is actually run. Then layers are returned to INT8 one by one, the
most expensive first, as long as the budget still holds. This recovers what is lost where errors do not add up exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.errors import UsageError
from googlenet_deploy.quantization.quantized_model import keep_in_float

if TYPE_CHECKING:
    from collections.abc import Sequence

    from googlenet_deploy.quantization.accuracy_probe import HoldOutEvaluation, Measure
    from googlenet_deploy.quantization.mixed_precision.sensitivity import LayerSensitivity
    from googlenet_deploy.quantization.quantized_model import QuantizedModel


# Costs are rounded up to a four-thousandth of their sum, finer than the cost of any layer but the classifier.
STEPS = 4000


def cheapest_sets(costs: Sequence[int], gains: Sequence[float]) -> list[frozenset[int]]:
    """Sets that each gain more than every cheaper set, from the empty set to all items that gain anything.

    Dynamic programming over capacities (Bellman 1957; Kellerer, Pferschy and Pisinger 2004, "Knapsack Problems",
    section 2.3).

    Args:
        costs: Cost of each item, 0 or above.
        gains: Gain of each item, 0 or above.

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


TOP1, AGREEMENT, SQNR = "top1", "agreement", "sqnr"
BUDGETS = (TOP1, AGREEMENT, SQNR)
# Sets and layers that differ by less than this share of all multiply-adds are not worth running the model for.
SMALLEST_STEP = 0.004
# A layer is only tried in INT8 if the predicted error is not far above that of a set that failed.
HOPELESS = 1.05


@dataclass(frozen=True)
class Budget:
    """An accuracy limit that the result must keep.

    Attributes:
        name: "top1": the largest loss of top-1 accuracy, in percentage points; "agreement": the smallest percentage of
            best classes that are FP32's; "sqnr": the smallest signal-to-noise ratio of the scores, in dB.
        value: The bound.
    """

    name: str
    value: float

    def __post_init__(self) -> None:
        if self.name not in BUDGETS:
            raise UsageError(f"unknown budget {self.name!r}: choose {', '.join(BUDGETS)}")
        largest = {TOP1: 100.0, AGREEMENT: 100.0, SQNR: math.inf}[self.name]
        if not 0 <= self.value <= largest:
            raise UsageError(f"a budget of {self.name}={self.value:g} makes no sense")

    def margin(self, measure: Measure) -> float:
        """The margin to the budget, in its own unit; below 0 if it is not kept."""
        if self.name == TOP1:
            assert measure.paired is not None
            return self.value + measure.paired.points
        if self.name == AGREEMENT:
            return measure.percent - self.value
        return measure.sqnr - self.value

    def reached(self, measure: Measure) -> str:
        """The measured figure with its interval; the worst of several score outputs."""
        if self.name == TOP1:
            return f"top-1 {measure.paired}"
        listed = (measure.agreement, *measure.others.values())
        if self.name == AGREEMENT:
            return f"agreement {min(listed, key=lambda each: each.proportion.percent).proportion}"
        worst = min(listed, key=lambda each: each.sqnr)
        low, high = worst.sqnr_interval
        return f"{measure.quantity} SQNR {worst.sqnr:.2f} dB (95 % interval {low:.2f} to {high:.2f})"


@dataclass(frozen=True)
class Trial:
    """One set of layers in float, and its measured result.

    Attributes:
        kept: Names of the layers in float.
        measure: The model's comparison with the FP32 model.
        margin: The margin to the tightest budget; below 0 if it is not kept.
    """

    kept: frozenset[str]
    measure: Measure
    margin: float

    @property
    def holds(self) -> bool:
        """Whether every budget is kept."""
        return self.margin >= 0


class BudgetSearch:
    """Finds the layers that stay in float.

    Args:
        quantized: The quantised model with all layers quantised.
        hold_out: Measures models.
        layers: The layers' sensitivity.
        budgets: All must hold.
        tried: Called after each model that was run.
    """

    def __init__(
        self,
        quantized: QuantizedModel,
        hold_out: HoldOutEvaluation,
        layers: Sequence[LayerSensitivity],
        budgets: Sequence[Budget],
        tried: Callable[[], object] = lambda: None,
    ) -> None:
        self.quantized, self.hold_out, self.budgets, self.tried = quantized, hold_out, budgets, tried
        self.costs = {layer.name: layer.multiply_adds for layer in layers}
        by_noise = all(budget.name == SQNR for budget in budgets)
        self.errors = {layer.name: layer.noise if by_noise else layer.divergence for layer in layers}
        self.smallest = SMALLEST_STEP * sum(self.costs.values())
        self.trials: dict[frozenset[str], Trial] = {}

    def run(self) -> Trial:
        """The set with the fewest multiply-adds that keeps the budgets; if none does, the one that comes nearest."""
        found, failed = self._bisect(self._sets())
        if found is None:
            return max(self.trials.values(), key=lambda trial: (trial.margin, -self._cost(trial.kept)))
        return self._give_back(found, failed)

    def _sets(self) -> list[frozenset[str]]:
        """Sets worth trying, from none to all but the layer that costs most in float."""
        names = list(self.costs)
        sets = cheapest_sets(list(self.costs.values()), [self.errors[name] for name in names])
        everything = frozenset(names)
        steps: dict[int, frozenset[str]] = {}
        for chosen in sets:
            kept = frozenset(names[position] for position in chosen)
            steps[int(self._cost(kept) / max(self.smallest, 1))] = kept  # the best of those that cost about the same
        last = everything - {max(names, key=self.costs.__getitem__)}
        listed = [kept for kept in steps.values() if kept not in (frozenset(), last, everything)]
        return [frozenset(), *listed, last]

    def _bisect(self, sets: Sequence[frozenset[str]]) -> tuple[Trial | None, frozenset[str] | None]:
        """The first set that keeps the budgets, and the set before it, which does not."""
        if self._try(sets[0]).holds:
            return self._try(sets[0]), None
        low, high = 0, len(sets) - 1
        if not self._try(sets[high]).holds:
            return None, None
        while high - low > 1:
            middle = (low + high) // 2
            if self._try(sets[middle]).holds:
                high = middle
            else:
                low = middle
        return self._try(sets[high]), sets[low]

    def _give_back(self, found: Trial, failed: frozenset[str] | None) -> Trial:
        if failed is None:
            return found
        limit = HOPELESS * self._error(failed)
        for name in sorted(found.kept, key=lambda each: (-self.costs[each], each)):
            fewer = found.kept - {name}
            if self._error(fewer) <= limit and self.costs[name] >= self.smallest:
                trial = self._try(fewer)
                found = trial if trial.holds else found
        return found

    def _try(self, kept: frozenset[str]) -> Trial:
        if kept not in self.trials:
            model = keep_in_float(self.quantized, dict.fromkeys(kept, "")).build() if kept else self.quantized.build()
            measure = self.hold_out.measure(model)
            margin = min(budget.margin(measure) for budget in self.budgets)
            self.trials[kept] = Trial(kept, measure, margin)
            self.tried()
        return self.trials[kept]

    def _error(self, kept: frozenset[str]) -> float:
        """The predicted error of what is quantised."""
        return sum(error for name, error in self.errors.items() if name not in kept)

    def _cost(self, kept: frozenset[str]) -> int:
        return sum(self.costs[name] for name in kept)
