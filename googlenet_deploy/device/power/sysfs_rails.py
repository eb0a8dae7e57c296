"""A meter made of rails that the kernel exposes as files, whichever chip measures them."""

from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from googlenet_deploy.device.power.ina import SOURCE
from googlenet_deploy.device.power.meter import Limits, Rail
from googlenet_deploy.device.power.rails import Total
from googlenet_deploy.device.system.sysfs import LostReadingError

# Each reading occupies the bus and a core for a while, so more readings would affect the result.
DEFAULT_PERIOD = 0.05


class SysfsRail(NamedTuple):
    """One power rail that is read from files.

    Attributes:
        name: The board's name for it.
        chip: The chip that measures it.
        limits: Its error limits.
        period: Seconds between two of its values; None if the driver does not report it.
        watts: Reads the current power, which is negative if the chip's offset exceeds an idle rail's power;
            raises LostReadingError if a file is gone, cannot be read, or has an impossible value.
    """

    name: str
    chip: str
    limits: Limits
    period: Optional[float]
    watts: Callable[[], float]


class SysfsMeter:
    """Reads rails one after another; see `meter.Meter`.

    A rail outside the total that cannot be read at first is left out; if it fails later, it is only missing from
    that reading.

    Args:
        rails: At least one.
        total: Definition of their total.
        period: Seconds between readings; None uses the slowest chip's period, at least `DEFAULT_PERIOD`.
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
        """Watts of every rail that can be read, always including the total's; see `meter.Meter.read`."""
        values: Dict[str, float] = {}
        for rail in self._rails:
            try:
                values[rail.name] = rail.watts()
            except LostReadingError:
                if rail.name in self._needed:
                    raise
        return values

    def close(self) -> None:
        """Does nothing."""


def _why_dead(rail: SysfsRail) -> List[str]:
    """Why a rail cannot be read; empty if it can."""
    try:
        rail.watts()
    except LostReadingError as error:
        return [error.message]
    return []
