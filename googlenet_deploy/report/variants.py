"""The model in each precision: how right it is, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MEASURED, BOUND = "measured", "bound"


@dataclass(frozen=True)
class Share:
    """A share of images, with its 95 % Wilson interval.

    Attributes:
        successes: How many.
        total: Out of how many.
        low: Lower end, in percent.
        high: Upper end, in percent.
    """

    successes: int
    total: int
    low: float
    high: float

    @property
    def percent(self) -> float:
        """The share in percent."""
        return 100.0 * self.successes / self.total


@dataclass(frozen=True)
class Difference:
    """A difference to the FP32 model on the same images, with a paired 95 % interval.

    Attributes:
        points: The difference, in percentage points; negative where it is worse.
        low: Lower end.
        high: Upper end.
        better: Images that only this model has right.
        worse: Images that only the FP32 model has right.
    """

    points: float
    low: float
    high: float
    better: int
    worse: int


@dataclass(frozen=True)
class Quantity:
    """A number with its unit, and whether it was measured.

    Attributes:
        value: The number.
        unit: "ms", "mJ", "MB".
        kind: "measured", or "bound" for a bound from published rates.
        where: On what, in which power mode.
        low: Lower end of its 95 % interval, or of the bounds; None where there is none.
        high: Upper end.
    """

    value: float
    unit: str
    kind: str
    where: str
    low: float | None = None
    high: float | None = None

    @property
    def least(self) -> float:
        """The lowest that a bound allows: its floor where it has one, which lies below the roofline."""
        return self.value if self.low is None else self.low


@dataclass(frozen=True)
class Variant:
    """The model in one precision.

    Attributes:
        name: "fp32", "fp16", "int8".
        file: Its file.
        bytes: The file's size.
        sha256: The file's hash.
        top1: Images whose best class is the true one.
        top5: Images whose true class is among the best five.
        difference: Of top-1, to the FP32 model.
        agreement: Images whose best class is that of the FP32 model.
        sqnr: Signal over noise of the scores against the FP32 model, in dB.
        divergence: Mean Kullback-Leibler divergence from the FP32 model, in nats.
        latency: Milliseconds per image, batch 1.
        energy: Millijoules per image.
        memory: Megabytes.
        shares: Share of the multiply-adds by type, 0..1.
    """

    name: str
    file: str
    bytes: int
    sha256: str
    top1: Share | None = None
    top5: Share | None = None
    difference: Difference | None = None
    agreement: Share | None = None
    sqnr: float | None = None
    divergence: float | None = None
    latency: Quantity | None = None
    energy: Quantity | None = None
    memory: Quantity | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
