"""Energy over a timed window, from the readings of a meter, with its uncertainty.

Power readings are integrated by the trapezoidal rule, cut exactly at the window's edges; readings of an energy counter
are interpolated at the two edges and subtracted.

Uncertainty follows the Guide to the Expression of Uncertainty in Measurement (JCGM 100:2008): three standard
uncertainties, added in quadrature and doubled (coverage factor 2, about 95 %).

* Sampling. For power, ``s / sqrt(n) * T`` with the standard deviation s of the n readings inside the window of T
  seconds, as if they were independent draws. Where a reading may lag (a counter's period, an averaging meter), each
  edge of the window is uncertain by up to that lag: a rectangular distribution each, together ``P * lag / sqrt(6)``.
* Quantisation. A step q is a rectangular distribution of width q (4.3.7): ``q / sqrt(12) * T`` for power, without any
  gain from averaging, since a steady power always rounds the same way; ``q / sqrt(6)`` for a counter's two readings.
* The meter's own error. An error limit a, without further knowledge, is a rectangular distribution of half-width a:
  ``a / sqrt(3)``, with a = relative limit * energy + absolute limit * T; the limits of several rails are added
  linearly, since chips of one type have correlated errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from googlenet_deploy.device.power.meter import NotMeasured, Rail

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.device.power.meter import Meter

COVERAGE = 2.0
# With fewer readings than this, the power between them is hardly known.
MIN_READINGS = 20
# Over a window this many times the meter's lag, the edges are uncertain by 4 % (standard uncertainty).
MIN_LAGS = 10
# In a pause longer than this many periods, and longer than half a second, the power is unknown.
MAX_GAP_PERIODS = 5
MAX_GAP_SECONDS = 0.5


@dataclass
class Trace:
    """The readings of a meter.

    Attributes:
        times: Seconds on one monotonic clock, ascending.
        values: One per time: watts or joules by rail.
        lost: Number of failed readings.
        last_loss: Why the latest reading failed.
        ended: Why there will be no further readings; "" while the meter works.
    """

    times: List[float] = field(default_factory=list)
    values: List[Dict[str, float]] = field(default_factory=list)
    lost: int = 0
    last_loss: str = ""
    ended: str = ""


@dataclass(frozen=True)
class Energy:
    """The energy of one window.

    Attributes:
        joules: Energy of the total.
        seconds: Length of the window.
        sampling: Standard uncertainty in joules from sampling.
        quantisation: The same from the meter's steps.
        accuracy: The same from the meter's error; None if its manufacturer states no limits.
        relative_limit: The relative part of the meter's limits; None if not stated.
        readings: Readings inside the window.
        rate: Readings per second.
        lost: Readings that failed since the meter was opened.
        rails: Joules by rail, including rails outside the total that are in every reading.
        notes: Irregularities of the readings.
    """

    joules: float
    seconds: float
    sampling: float
    quantisation: float
    accuracy: Optional[float]
    relative_limit: Optional[float]
    readings: int
    rate: float
    lost: int
    rails: Dict[str, float]
    notes: Tuple[str, ...] = ()

    @property
    def watts(self) -> float:
        """Mean power."""
        return self.joules / self.seconds

    @property
    def uncertainty(self) -> float:
        """Expanded uncertainty in joules, coverage factor 2; without the meter's error if its limits are not stated."""
        return COVERAGE * math.sqrt(self.sampling**2 + self.quantisation**2 + (self.accuracy or 0.0) ** 2)


Measured = Union[Energy, NotMeasured]


def energy_between(trace: Trace, meter: Meter, start: float, end: float) -> Measured:
    """The energy from `start` to `end`, or why it is unknown.

    Args:
        trace: Readings from before `start` until after `end`.
        meter: The meter that took them.
        start: Seconds on the trace's clock.
        end: The same.
    """
    times = np.asarray(trace.times, np.float64)
    problem = _problem(times, trace, meter, start, end)
    if problem is not None:
        return problem
    names = [rail.name for rail in meter.rails if all(rail.name in value for value in trace.values)]
    columns = {name: np.asarray([value[name] for value in trace.values], np.float64) for name in names}
    rails = {name: _rail_joules(times, columns[name], start, end, counts=meter.counts_energy) for name in names}
    joules = sum(rails[rail.name] for rail in meter.rails if rail.in_total)
    if joules <= 0:
        return NotMeasured(
            f"{meter.name} gives {joules:.3g} J in {end - start:.2f} s: its offset is larger than the power"
        )
    inside = int(np.count_nonzero((times >= start) & (times <= end)))
    accuracy, relative = _accuracy(meter.rails, rails, end - start)
    return Energy(
        joules=joules,
        seconds=end - start,
        sampling=_sampling(times, columns, meter, joules, start, end),
        quantisation=_quantisation(meter, end - start),
        accuracy=accuracy,
        relative_limit=relative,
        readings=inside,
        rate=inside / (end - start),
        lost=trace.lost,
        rails=rails,
        notes=_notes(trace, meter, columns),
    )


def combine(parts: Sequence[Energy]) -> Energy:
    """The total energy of several windows of one meter.

    Sampling is independent from window to window and adds in quadrature; quantisation and the meter's error are the
    same each time and add linearly.
    """
    seconds = sum(part.seconds for part in parts)
    accuracies = [part.accuracy for part in parts if part.accuracy is not None]
    readings = sum(part.readings for part in parts)
    return Energy(
        joules=sum(part.joules for part in parts),
        seconds=seconds,
        sampling=math.sqrt(sum(part.sampling**2 for part in parts)),
        quantisation=sum(part.quantisation for part in parts),
        accuracy=sum(accuracies) if len(accuracies) == len(parts) else None,
        relative_limit=parts[0].relative_limit,
        readings=readings,
        rate=readings / seconds,
        lost=max(part.lost for part in parts),
        rails={
            name: sum(part.rails[name] for part in parts)
            for name in parts[0].rails
            if all(name in part.rails for part in parts)
        },
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def above_idle(energy: Energy, idle: Energy) -> Tuple[float, float]:
    """(joules, expanded uncertainty) of the energy above the idle energy of the same duration.

    Sampling and quantisation of both measurements are added in quadrature; the meter's constant error cancels, and
    its relative error applies to the difference.
    """
    scale = energy.seconds / idle.seconds
    joules = energy.joules - idle.joules * scale
    parts = [energy.sampling, energy.quantisation, idle.sampling * scale, idle.quantisation * scale]
    parts.append((energy.relative_limit or 0.0) * abs(joules) / math.sqrt(3))
    return joules, COVERAGE * math.sqrt(sum(part**2 for part in parts))


def window_for(meter: Meter, seconds: float) -> float:
    """The length that a window needs for `MIN_READINGS` readings and `MIN_LAGS` lags; at least `seconds`."""
    return max(seconds, MIN_READINGS * meter.period, MIN_LAGS * meter.lag)


def max_gap(meter: Meter) -> float:
    """The longest pause between readings, in seconds, across which power may be interpolated linearly."""
    return max(MAX_GAP_PERIODS * meter.period, MAX_GAP_SECONDS)


def _problem(times: NDArray[np.float64], trace: Trace, meter: Meter, start: float, end: float) -> Optional[NotMeasured]:
    if end <= start:
        return NotMeasured("the window is empty")
    why = trace.ended or (f"the latest failed reading: {trace.last_loss}" if trace.lost else "")
    because = f" ({why})" if why else ""
    if len(times) < 2 or times[0] > start or times[-1] < end:
        return NotMeasured(f"the readings of {meter.name} do not reach across the window{because}")
    first = int(np.searchsorted(times, start, "right")) - 1
    last = int(np.searchsorted(times, end, "left"))
    used = times[first : last + 1]
    # A counter keeps counting between two readings; only the readings at the edges must be close.
    pauses = np.diff(used)[[0, -1]] if meter.counts_energy else np.diff(used)
    if float(pauses.max()) > max_gap(meter):
        return NotMeasured(f"{meter.name} gave no reading for {float(pauses.max()):.2f} s of the window{because}")
    if len(used) < MIN_READINGS and not meter.counts_energy:
        return NotMeasured(f"{meter.name} gave {len(used)} readings in the window, {MIN_READINGS} are needed{because}")
    return None


def _rail_joules(
    times: NDArray[np.float64], values: NDArray[np.float64], start: float, end: float, *, counts: bool
) -> float:
    if counts:
        first, last = np.interp([start, end], times, values)
        return float(last - first)
    inside = (times > start) & (times < end)
    x = np.concatenate([[start], times[inside], [end]])
    y = np.concatenate([np.interp([start], times, values), values[inside], np.interp([end], times, values)])
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))


def _sampling(
    times: NDArray[np.float64],
    columns: Dict[str, NDArray[np.float64]],
    meter: Meter,
    joules: float,
    start: float,
    end: float,
) -> float:
    seconds = end - start
    edges = joules / seconds * meter.lag / math.sqrt(6)
    if meter.counts_energy:
        return edges
    inside = (times >= start) & (times <= end)
    total = np.sum([columns[rail.name][inside] for rail in meter.rails if rail.in_total], axis=0)
    return math.hypot(edges, float(np.std(total, ddof=1)) / math.sqrt(len(total)) * seconds)


def _quantisation(meter: Meter, seconds: float) -> float:
    steps = math.sqrt(sum(rail.limits.step**2 for rail in meter.rails if rail.in_total))
    return steps / math.sqrt(6) if meter.counts_energy else steps / math.sqrt(12) * seconds


def _accuracy(
    rails: Sequence[Rail], joules: Dict[str, float], seconds: float
) -> Tuple[Optional[float], Optional[float]]:
    limit, relative = 0.0, 0.0
    for rail in rails:
        if not rail.in_total:
            continue
        if rail.limits.relative is None:
            return None, None
        limit += rail.limits.relative * abs(joules[rail.name]) + rail.limits.watts * seconds
        relative = max(relative, rail.limits.relative)
    return limit / math.sqrt(3), relative


def _notes(trace: Trace, meter: Meter, columns: Dict[str, NDArray[np.float64]]) -> Tuple[str, ...]:
    # Without counts, so that several windows of one trace have the same note.
    notes = list(meter.notes)
    if trace.lost:
        notes.append(f"readings failed, the latest: {trace.last_loss}")
    missed = [rail.name for rail in meter.rails if rail.name not in columns]
    notes += [f"{name} missed readings; it is not part of the total and is left out" for name in missed]
    for name, values in columns.items():
        if not meter.counts_energy and np.any(values < 0):
            notes.append(f"{name} read below zero at times, the monitor's offset at idle; kept as read")
    return tuple(notes)
