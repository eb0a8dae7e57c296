"""The interface of every power meter.

A meter knows its rails, which of them make up the total, how often a new value is available, and the error limits that
its manufacturer states. Some meters return watts, some count joules; `sampler.py` handles both in the same way.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Protocol, Tuple, Union

from googlenet_deploy.errors import DeviceError


class MeterEntry(NamedTuple):
    """One kind of meter.

    Attributes:
        opener: Path of its function, see `device.registry`; its arguments are the rails that make up the total (empty
            for the module's default) and the root of the file system; it returns an open `Meter` or a `NotMeasured`.
        auto: When "auto" tries it: on a "Jetson", or elsewhere for work on a "GPU" or "CPU".
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
    """A meter has ended permanently; there will be no further readings."""


class Limits(NamedTuple):
    """A rail's error limits as stated by the manufacturer.

    Attributes:
        relative: Fraction of the reading, 0.015 for 1.5 %; None if not stated.
        watts: Error that is independent of the reading.
        step: Smallest step of a reading: watts, or joules for a meter that counts energy.
    """

    relative: Optional[float]
    watts: float
    step: float


class Rail(NamedTuple):
    """One power rail.

    Attributes:
        name: The board's name for it.
        in_total: Whether it is part of the total.
        limits: Its error limits.
    """

    name: str
    in_total: bool
    limits: Limits


class NotMeasured(NamedTuple):
    """Why a figure was not measured, and the remedy; never a substitute for zero."""

    reason: str
    remedy: str = ""


class Meter(Protocol):
    """An open power meter.

    Attributes:
        name: Human-readable name: "INA3221 (hwmon)".
        covers: What the total covers: "module", "GPU board", ...
        rails: Every rail that is read.
        counts_energy: Whether `read` returns joules counted since the meter was opened; otherwise it returns watts.
        period: Useful interval between two readings, in seconds.
        lag: Seconds by which a reading may be out of date: a counter's own period, or the time that a power
            reading averages over; 0 if that is below `period`.
        paced: Whether `read` itself waits for the next value.
        source: Source of the error limits.
        notes: Notes for readers of the figures.
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
        """The current value of every rail: watts or joules.

        Raises:
            LostReadingError: This reading failed; later ones may succeed.
            MeterGoneError: There will be no further readings.
        """
        ...

    def close(self) -> None:
        """Closes the meter; a waiting `read` returns or raises."""
        ...


Opened = Union[Meter, NotMeasured]


def total_name(rails: Tuple[Rail, ...]) -> str:
    """The rails of the total: ``VDD_IN``, or ``VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0``."""
    return " + ".join(rail.name for rail in rails if rail.in_total)
