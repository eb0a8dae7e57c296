"""Percentiles that the number of runs supports, and intervals over rounds.

A figure's value comes from all runs together. Its 95 % interval comes from the rounds: each round gives one value, and
``mean +- t * s / sqrt(rounds)`` with Student's t for rounds - 1 degrees of freedom (two-sided) shows how well another
set of rounds would repeat it. Runs inside a round are correlated, rounds much less. Times, rates and energies are
positive and vary by factors, so the interval is computed from their logarithms, or from the values themselves if one is
not positive, as an energy above idle may be.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
# Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom, from the usual table.
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_Z = 1.959964
_LARGEST_EXPONENT = 700.0  # exp of more overflows a double

Interval = Tuple[float, float]


class Figure(NamedTuple):
    """One figure.

    Attributes:
        value: Value over all runs; None if it was not measured.
        interval: 95 % interval over the rounds; None if there are too few.
        rounds: One value per round; empty if a round does not support it.
        missing: Why there is no value.
    """

    value: Optional[float]
    interval: Optional[Interval] = None
    rounds: Tuple[float, ...] = ()
    missing: str = ""

    def to_dict(self) -> Dict[str, Any]:
        """For JSON."""
        if self.value is None:
            return {"value": None, "not_measured": self.missing}
        return {
            "value": self.value,
            "interval_95": None if self.interval is None else list(self.interval),
            "rounds": list(self.rounds),
        }


class Summary(NamedTuple):
    """Times of one scope, in milliseconds.

    Attributes:
        runs: Number of runs.
        mean: Their mean.
        std: Their standard deviation; None for a single run.
        lowest: The shortest.
        highest: The longest.
        percentiles: By name: "p50", "p90", "p95", "p99", "p99.9".
    """

    runs: int
    mean: Figure
    std: Optional[float]
    lowest: float
    highest: float
    percentiles: Dict[str, Figure]

    def to_dict(self) -> Dict[str, Any]:
        """For JSON."""
        return {
            "runs": self.runs,
            "mean": self.mean.to_dict(),
            "std": self.std,
            "lowest": self.lowest,
            "highest": self.highest,
            **{name: figure.to_dict() for name, figure in self.percentiles.items()},
        }


def student_t(degrees: float) -> float:
    """The two-sided 95 % quantile of Student's t; fractional degrees of freedom are rounded down."""
    whole = max(1, math.floor(degrees))
    if whole <= len(_T):
        return _T[whole - 1]
    # The first terms of the Cornish-Fisher expansion (Abramowitz and Stegun, 26.7.5).
    return _Z + (_Z**3 + _Z) / (4 * whole) + (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / (96 * whole**2)


def interval(values: Sequence[float]) -> Optional[Interval]:
    """The 95 % interval of the mean of one value per round, see the module; None for a single round."""
    if len(values) < 2:
        return None
    positive = min(values) > 0
    x = np.log(values) if positive else np.asarray(values, np.float64)
    half = student_t(len(values) - 1) * float(np.std(x, ddof=1)) / math.sqrt(len(values))
    low, high = float(np.mean(x)) - half, float(np.mean(x)) + half
    return (exp(low), exp(high)) if positive else (low, high)


def exp(exponent: float) -> float:
    """The exponential function, limited to avoid overflow."""
    return math.exp(min(exponent, _LARGEST_EXPONENT))


def over_rounds(value: float, rounds: Sequence[float]) -> Figure:
    """A figure with its interval."""
    return Figure(value, interval(rounds), tuple(rounds))


def runs_for(percentile: float) -> int:
    """How many runs a percentile needs, so that at least one lies beyond it."""
    return math.ceil(1 / (1 - percentile / 100) - 1e-9)


def summarise(rounds: Sequence[Sequence[float]]) -> Summary:
    """Summarises seconds, one sequence per round.

    Raises:
        ValueError: There are no runs.
    """
    milliseconds = [np.asarray(seconds, np.float64) * 1000 for seconds in rounds if len(seconds)]
    if not milliseconds:
        raise ValueError("there are no runs")
    together = np.concatenate(milliseconds)
    return Summary(
        runs=len(together),
        mean=over_rounds(float(together.mean()), [float(part.mean()) for part in milliseconds]),
        std=float(together.std(ddof=1)) if len(together) > 1 else None,
        lowest=float(together.min()),
        highest=float(together.max()),
        percentiles={f"p{percentile:g}": _percentile(together, milliseconds, percentile) for percentile in PERCENTILES},
    )


def _percentile(together: Any, rounds: List[Any], percentile: float) -> Figure:  # noqa: ANN401 - arrays
    needed = runs_for(percentile)
    if len(together) < needed:
        return Figure(None, missing=f"needs {needed} runs, there were {len(together)}")
    value = float(np.percentile(together, percentile))
    if any(len(part) < needed for part in rounds):
        return Figure(value)
    return over_rounds(value, [float(np.percentile(part, percentile)) for part in rounds])
