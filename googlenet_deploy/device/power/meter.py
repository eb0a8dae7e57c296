"""What every power meter offers.

A meter knows its rails, which of them make the total, how often a new value is worth reading, and the limits of its
error as its maker states them. Some give watts, some count joules; `sampler.py` reads both in one way.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Protocol, Tuple, Union

from googlenet_deploy.errors import DeviceError


class MeterEntry(NamedTuple):
    """One kind of meter.

    Attributes:
        opener: The place of its function, see `device.registry`: takes the rails that make the total (empty for the
            module's) and the root of the file system, and gives an open `Meter` or a `NotMeasured`.
        auto: Where "auto" tries it: "Jetson", or elsewhere for work on a "GPU" or "CPU".
    """

    opener: str
    auto: str


# The one registry of meters, in the order in which "auto" tries them.
REGISTRY: Dict[str, MeterEntry] = {
    "ina": MeterEntry("googlenet_deploy.device.power.ina_meter:open_ina", "Jetson"),
    "tegrastats": MeterEntry("googlenet_deploy.device.power.tegrastats:open_tegrastats", "Jetson"),
    "nvml": MeterEntry("googlenet_deploy.device.power.nvml_meter:open_nvml", "GPU"),
    "rapl": MeterEntry("googlenet_deploy.device.power.rapl:open_rapl", "CPU"),
}
METERS = ("auto", *REGISTRY, "none")


class MeterGoneError(DeviceError):
    """A meter has ended for good; no further reading will come."""


class Limits(NamedTuple):
    """Limits of a rail's error, as its maker states them.

    Attributes:
        relative: Share of the reading, 0.015 for 1.5 %; None where nobody states it.
        watts: Error that does not grow with the reading.
        step: Smallest step of a reading: watts, or joules for a meter that counts energy.
    """

    relative: Optional[float]
    watts: float
    step: float


class Rail(NamedTuple):
    """One supply.

    Attributes:
        name: As the board names it.
        in_total: Whether it is part of the total.
        limits: Its error limits.
    """

    name: str
    in_total: bool
    limits: Limits


class NotMeasured(NamedTuple):
    """Why a figure was not measured, and what would change that; never stands for zero."""

    reason: str
    remedy: str = ""


class Meter(Protocol):
    """A power meter that is open.

    Attributes:
        name: For people: "INA3221 (hwmon)".
        covers: What the total is the power of: "module", "GPU board", ...
        rails: Every rail that is read.
        counts_energy: Whether `read` gives joules counted since the meter was opened; else it gives watts.
        period: Seconds between two readings that are worth taking.
        lag: Seconds by which a reading may be behind the truth: a counter's own period, or the time that a power
            reading averages over; 0 where that is below `period`.
        paced: Whether `read` itself waits for the next value.
        source: Where the error limits come from.
        notes: What a reader of the figures should know.
    """

    name: str
    covers: str
    rails: Tuple[Rail, ...]
    counts_energy: bool
    period: float
    lag: float
    paced: bool
    source: str
    notes: List[str]

    def read(self) -> Dict[str, float]:
        """The present value of every rail: watts or joules.

        Raises:
            LostReadingError: This value is lost; the next may come.
            MeterGoneError: No further value will come.
        """
        ...

    def close(self) -> None:
        """Ends the meter; a `read` that waits returns or raises."""
        ...


Opened = Union[Meter, NotMeasured]


def total_name(rails: Tuple[Rail, ...]) -> str:
    """How the total is made: ``VDD_IN``, or ``VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0``."""
    return " + ".join(rail.name for rail in rails if rail.in_total)
