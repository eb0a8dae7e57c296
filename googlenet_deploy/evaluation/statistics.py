"""Top-k accuracy and its confidence intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from googlenet_deploy.device.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


Z_95 = 1.959963984540054  # the 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Proportion:
    """A share of successes, with its Wilson interval.

    Attributes:
        successes: Number of successes.
        total: Number of trials, at least 1.
    """

    DERIVED: ClassVar[tuple[str, ...]] = ("percent", "low", "high")  # written to JSON next to the counts
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

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.interval[0]

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.interval[1]

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
        k: Number of classes that count.
    """
    return np.asarray((indices[:, :k] == labels[:, np.newaxis]).any(axis=1))


SIGNIFICANT = 0.05


@dataclass(frozen=True)
class PairedDifference:
    """A model's accuracy minus its reference's, on the same images.

    Only images that exactly one of the two classifies correctly distinguish them, which makes the comparison far
    sharper than that of two accuracies with an interval each.

    Attributes:
        gained: Images that only the model gets right.
        lost: Images that only the reference gets right.
        total: All images, at least 1.
    """

    DERIVED: ClassVar[tuple[str, ...]] = ("points", "low", "high", "p_value")  # written to JSON next to the counts
    gained: int
    lost: int
    total: int

    @classmethod
    def of(cls, model: Iterable[bool], reference: Iterable[bool]) -> PairedDifference:
        """Counts correct and wrong predictions of both on the same images, in the same order."""
        pairs = list(zip(model, reference, strict=True))
        return cls(sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs), len(pairs))

    @property
    def points(self) -> float:
        """The difference in percentage points; negative if the model is worse."""
        return 100.0 * (self.gained - self.lost) / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % interval in percentage points: the adjusted Wald interval for paired proportions.

        Bonett and Price 2012, "Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based
        on Paired Data", Journal of Educational and Behavioral Statistics 37: one image is added to each cell, which
        keeps the interval valid for few images and if the two never differ.
        """
        count = self.total + 2
        gained, lost = (self.gained + 1) / count, (self.lost + 1) / count
        difference = gained - lost
        spread = Z_95 * math.sqrt(max(0.0, gained + lost - difference * difference) / count)
        return 100.0 * max(-1.0, difference - spread), 100.0 * min(1.0, difference + spread)

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.interval[0]

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.interval[1]

    @property
    def p_value(self) -> float:
        """Probability of a difference at least as large, either way, by chance alone: McNemar's exact test.

        McNemar 1947, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12;
        without a true difference each image that distinguishes the two is a fair coin toss.
        """
        decisive, fewer = self.gained + self.lost, min(self.gained, self.lost)
        tail = sum(math.comb(decisive, count) for count in range(fewer + 1))
        return min(1.0, float(2 * tail / 2**decisive))

    @property
    def is_significant(self) -> bool:
        """Whether the p-value is below 5 %."""
        return self.p_value < SIGNIFICANT

    @property
    def least_significant_loss(self) -> float:
        """The smallest loss in points that these images can show, all decisive ones lost; infinite if too few."""
        losses = (PairedDifference(0, lost, self.total) for lost in range(1, self.total + 1))
        return next((-each.points for each in losses if each.is_significant), math.inf)

    def as_dict(self) -> dict[str, float | int | tuple[float, float]]:
        """All values, for JSON."""
        return {
            "points": self.points,
            "interval_95": self.interval,
            "gained": self.gained,
            "lost": self.lost,
            "images": self.total,
            "p_value": self.p_value,
        }

    def __str__(self) -> str:
        low, high = self.interval
        changes = f"{counted(self.gained, 'image')} gained, {self.lost} lost, McNemar p = {self.p_value:.2g}"
        return f"{self.points:+.2f} points (95 % interval {low:+.2f} to {high:+.2f}; {changes})"
