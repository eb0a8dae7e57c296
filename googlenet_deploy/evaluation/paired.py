"""Two models on the same images: how much more often one is right, and whether that is more than chance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from googlenet_deploy.evaluation.accuracy import Z_95

if TYPE_CHECKING:
    from collections.abc import Iterable

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class PairedDifference:
    """A model's accuracy minus its reference's, on the same images.

    Only images that one of the two gets right and the other wrong tell them apart, which makes the comparison far
    sharper than that of two accuracies with an interval each.

    Attributes:
        gained: Images that only the model gets right.
        lost: Images that only the reference gets right.
        total: All images, at least 1.
    """

    gained: int
    lost: int
    total: int

    @classmethod
    def of(cls, model: Iterable[bool], reference: Iterable[bool]) -> PairedDifference:
        """Counts the answers to the same images, in the same order: right or wrong."""
        pairs = list(zip(model, reference, strict=True))
        return cls(sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs), len(pairs))

    @property
    def points(self) -> float:
        """The difference in percentage points; negative where the model is worse."""
        return 100.0 * (self.gained - self.lost) / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % interval in percentage points: the adjusted Wald interval for paired proportions.

        Bonett and Price 2012, "Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based
        on Paired Data", Journal of Educational and Behavioral Statistics 37: one image is added to each cell, which
        keeps the interval honest for few images and where the two never differ.
        """
        count = self.total + 2
        gained, lost = (self.gained + 1) / count, (self.lost + 1) / count
        difference = gained - lost
        spread = Z_95 * math.sqrt(max(0.0, gained + lost - difference * difference) / count)
        return 100.0 * max(-1.0, difference - spread), 100.0 * min(1.0, difference + spread)

    @property
    def p_value(self) -> float:
        """How likely chance alone gives a difference as large, either way: McNemar's test, exact.

        McNemar 1947, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12;
        without a true difference each image that tells the two apart falls to either side like a coin.
        """
        decisive, fewer = self.gained + self.lost, min(self.gained, self.lost)
        tail = sum(math.comb(decisive, count) for count in range(fewer + 1))
        return min(1.0, float(2 * tail / 2**decisive))

    @property
    def is_significant(self) -> bool:
        """Whether chance explains the difference in fewer than 5 of 100 cases."""
        return self.p_value < SIGNIFICANT

    def as_dict(self) -> dict[str, float | int | tuple[float, float]]:
        """Everything, for JSON."""
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
        return (
            f"{self.points:+.2f} points (95 % interval {low:+.2f} to {high:+.2f}; {self.gained} images gained, "
            f"{self.lost} lost, McNemar p = {self.p_value:.2g})"
        )
