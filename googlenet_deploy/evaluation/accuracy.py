"""Top-k accuracy, and how sure one can be of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Z_95 = 1.959963984540054  # the 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Proportion:
    """A share of successes, with its Wilson interval.

    Attributes:
        successes: How many.
        total: Out of how many, at least 1.
    """

    successes: int
    total: int

    @property
    def percent(self) -> float:
        """The share, in percent."""
        return 100.0 * self.successes / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson score interval, in percent.

        Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22. Unlike the normal
        approximation it stays within 0 and 100 and holds for few images and for shares near either end.
        """
        return wilson_interval(self.successes, self.total)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.percent:.1f} % (95 % interval {low:.1f} to {high:.1f}, {self.successes} of {self.total})"


def wilson_interval(successes: int, total: int, z: float = Z_95) -> tuple[float, float]:
    """Lower and upper end of the Wilson score interval of successes / total, in percent; see `Proportion`."""
    share = successes / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    denominator = 1 + z * z / total
    low = max(0.0, (centre - spread) / denominator) if successes else 0.0
    high = min(1.0, (centre + spread) / denominator) if successes < total else 1.0
    return 100 * low, 100 * high


def top_k_correct(indices: NDArray[np.int64], labels: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Whether the true class is among the first k of each row.

    Args:
        indices: (N, at least 1) class indices, best first.
        labels: (N,) true classes.
        k: How many of them count.
    """
    return np.asarray((indices[:, :k] == labels[:, np.newaxis]).any(axis=1))
