"""A meter made of rails that the kernel shows as files, whatever chip measures each."""

from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from googlenet_deploy.device.power.ina import SOURCE
from googlenet_deploy.device.power.meter import Limits, Rail
from googlenet_deploy.device.power.rails import Total

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
        self._rails = tuple(rails)
        self.rails: Tuple[Rail, ...] = tuple(Rail(rail.name, rail.name in total.rails, rail.limits) for rail in rails)
        self.covers = total.covers
        self.name = " and ".join(dict.fromkeys(rail.chip for rail in rails)) + " over sysfs"
        known = [rail.period for rail in rails if rail.period is not None]
        self.period = period or max([DEFAULT_PERIOD, *known])
        self.notes: List[str] = []

    def read(self) -> Dict[str, float]:
        """Watts of every rail; see `meter.Meter.read`."""
        return {rail.name: rail.watts() for rail in self._rails}

    def close(self) -> None:
        """There is nothing to end."""
