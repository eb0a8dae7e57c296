"""A meter made of rails that the kernel shows as files, whatever chip measures each."""

from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from googlenet_deploy.device.power.ina import SOURCE
from googlenet_deploy.device.power.meter import Limits, Rail
from googlenet_deploy.device.power.rails import Total
from googlenet_deploy.device.system.sysfs import LostReadingError

# Each reading keeps the bus and a core busy for a while, so more readings would change what they measure.
DEFAULT_PERIOD = 0.05


class SysfsRail(NamedTuple):
    """One rail that is read from files.

    Attributes:
        name: As the board names it.
        chip: What measures it.
        limits: Its error limits.
        period: Seconds between two of its values; None where the driver does not say.
        watts: Reads the present power, which is below zero where the chip's offset exceeds an idle rail's power;
            raises LostReadingError where a file has gone, does not answer, or holds no possible value.
    """

    name: str
    chip: str
    limits: Limits
    period: Optional[float]
    watts: Callable[[], float]


class SysfsMeter:
    """Reads rails one after the other; see `meter.Meter`.

    A rail outside the total that does not answer at first is left out, and later only missing from the reading.

    Args:
        rails: At least one.
        total: How their total is made.
        period: Seconds between readings; None takes the slowest chip's own, at least `DEFAULT_PERIOD`.
    """

    counts_energy = False
    lag = 0.0
    paced = False
    source = SOURCE

    def __init__(self, rails: Sequence[SysfsRail], total: Total, period: Optional[float] = None) -> None:
        dead = {rail.name: why for rail in rails if rail.name not in total.rails for why in _why_dead(rail)}
        rails = [rail for rail in rails if rail.name not in dead]
        self._rails, self._needed = tuple(rails), frozenset(total.rails)
        self.rails: Tuple[Rail, ...] = tuple(Rail(rail.name, rail.name in total.rails, rail.limits) for rail in rails)
        self.covers = total.covers
        self.name = " and ".join(dict.fromkeys(rail.chip for rail in rails)) + " over sysfs"
        known = [rail.period for rail in rails if rail.period is not None]
        self.period = period or max([DEFAULT_PERIOD, *known])
        self.notes = [f"{name} is not measured, and not part of the total: {why}" for name, why in dead.items()]

    def read(self) -> Dict[str, float]:
        """Watts of every rail that answers, those of the total always; see `meter.Meter.read`."""
        values: Dict[str, float] = {}
        for rail in self._rails:
            try:
                values[rail.name] = rail.watts()
            except LostReadingError:
                if rail.name in self._needed:
                    raise
        return values

    def close(self) -> None:
        """There is nothing to end."""


def _why_dead(rail: SysfsRail) -> List[str]:
    """Why a rail does not answer; empty where it does."""
    try:
        rail.watts()
    except LostReadingError as error:
        return [error.message]
    return []
