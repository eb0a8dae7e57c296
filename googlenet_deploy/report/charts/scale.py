"""Maps numbers to positions on an axis, and finds round ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from googlenet_deploy.report.text import fixed


@dataclass(frozen=True)
class Linear:
    """A linear axis: `low` is at `start`, `high` at `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The position of a value; values beyond an end are clamped to it."""
        span = self.high - self.low
        share = (min(max(value, self.low), self.high) - self.low) / span if span else 0.0
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """About `count` round values within the axis."""
        step = round_step((self.high - self.low) / max(1, count))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


@dataclass(frozen=True)
class Log:
    """A logarithmic axis; both ends are above 0."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The position of a value; values beyond an end are clamped to it."""
        inside = min(max(value, self.low), self.high)
        share = math.log(inside / self.low) / math.log(self.high / self.low) if self.high > self.low else 0.0
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Powers of ten, with 2 and 5 in between if they are few; `count` is ignored."""
        del count
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        powers = [10.0**exponent for exponent in range(first, last + 1)]
        factors = (1, 2, 5) if last - first <= 2 else (1,)
        inside = [factor * power for power in powers for factor in factors]
        return [value for value in inside if self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)]


TENFOLD = 10.0


def axis_from(values: Sequence[float], start: float, end: float, top: float | None = None) -> Linear | Log:
    """The axis for lengths: from 0, or logarithmic if the largest value exceeds ten times the smallest above 0.

    Args:
        values: At least one, none below 0.
        start: Position of the axis's lower end.
        end: Position of its upper end.
        top: Upper end of a linear axis; None for a little above the largest value.
    """
    above = [value for value in values if value > 0]
    if above and max(above) > TENFOLD * min(above):
        return Log(min(above) / 1.5, max(above) * 1.1, start, end)
    return Linear(0.0, top if top is not None else (max(values) * 1.05 or 1.0), start, end)


def unit_text(unit: str, axis: Linear | Log) -> str:
    """An axis's unit, with a note if it is logarithmic."""
    return f"{unit}, logarithmic" if isinstance(axis, Log) else unit


def tick_texts(ticks: list[float]) -> list[str]:
    """Ticks as text, all with the number of decimals that the finest one needs."""
    places = 0
    while places < 6 and any(abs(round(tick, places) - tick) > 1e-9 * max(1.0, abs(tick)) for tick in ticks):
        places += 1
    return [fixed(tick, places) for tick in ticks]


def round_step(raw: float) -> float:
    """The next larger of 1, 2, 2.5 and 5 times a power of ten."""
    if raw <= 0 or not math.isfinite(raw):
        return 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))


def axis_top(value: float, count: int = 5) -> float:
    """The end of an axis from 0 that includes a value: the next multiple of its tick."""
    if value <= 0:
        return 1.0
    step = round_step(value / count)
    return math.ceil(value / step - 1e-9) * step


def span_around(values: list[float], margin: float = 0.12) -> tuple[float, float]:
    """The ends of an axis around values, with some margin on both sides."""
    low, high = min(values), max(values)
    room = (high - low) * margin or abs(high) * margin or 1.0
    return low - room, high + room
