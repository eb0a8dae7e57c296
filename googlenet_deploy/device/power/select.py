"""Chooses the power meter of this machine, or says why there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict, List, Sequence, Tuple, Union

from googlenet_deploy.device.power import ina238, ina3221_hwmon, ina3221_iio
from googlenet_deploy.device.power.meter import METERS, Meter, MeterGoneError, NotMeasured
from googlenet_deploy.device.power.none import NoSampler
from googlenet_deploy.device.power.nvml_meter import NvmlMeter
from googlenet_deploy.device.power.rails import Total, chosen_total, total_of
from googlenet_deploy.device.power.rapl import RaplMeter, find_rapl, why_not_rapl
from googlenet_deploy.device.power.sampler import Sampler
from googlenet_deploy.device.power.sysfs_rails import SysfsMeter, SysfsRail
from googlenet_deploy.device.power.tegrastats import TegrastatsMeter, find_tegrastats
from googlenet_deploy.device.system.jetson import find_jetson
from googlenet_deploy.device.system.nvml import Nvml, cuda_bus_id
from googlenet_deploy.device.system.sysfs import LostReadingError
from googlenet_deploy.errors import DeviceError, UsageError

Opened = Union[Meter, NotMeasured]
AnySampler = Union[Sampler, NoSampler]


def open_sampler(
    choice: str = "auto", device: str = "GPU", rails: Tuple[str, ...] = (), root: Path = Path("/")
) -> AnySampler:
    """A sampler of this machine's meter, or one that gives the reason why nothing is measured.

    Args:
        choice: One of `METERS`. "auto" takes a Jetson's own monitors, then tegrastats; elsewhere NVML for work on a
            GPU and RAPL for work on a CPU, and never the one in place of the other.
        device: Where the work runs: "GPU", "DLA" or "CPU".
        rails: Rails that make the total; empty takes the module's.
        root: Root of the file system.

    Raises:
        UsageError: The choice is unknown, or one of the rails is not there.
    """
    meter = open_meter(choice, device, rails, root)
    return NoSampler(meter) if isinstance(meter, NotMeasured) else Sampler(meter)


def open_meter(
    choice: str = "auto", device: str = "GPU", rails: Tuple[str, ...] = (), root: Path = Path("/")
) -> Opened:
    """The meter alone; see `open_sampler`."""
    openers: Dict[str, Callable[[], Opened]] = {
        "ina": lambda: _open_ina(rails, root),
        "tegrastats": lambda: _open_tegrastats(rails, root),
        "nvml": _open_nvml,
        "rapl": lambda: _open_rapl(root),
    }
    if choice == "none":
        return NotMeasured("it was switched off (--power none)")
    if choice in openers:
        return openers[choice]()
    if choice != "auto":
        raise UsageError(f"unknown power meter {choice!r}: choose one of {', '.join(METERS)}")
    if find_jetson(root) is not None:
        order: Sequence[str] = ("ina", "tegrastats")
    else:
        order = ("rapl",) if device == "CPU" else ("nvml",)
    return _first(openers, order)


def _first(openers: Dict[str, Callable[[], Opened]], order: Sequence[str]) -> Opened:
    reasons: List[NotMeasured] = []
    for name in order:
        opened = openers[name]()
        if not isinstance(opened, NotMeasured):
            if reasons:
                opened.notes.append(f"chosen because {reasons[-1].reason}")
            return opened
        reasons.append(opened)
    remedies = "; ".join(dict.fromkeys(reason.remedy for reason in reasons if reason.remedy))
    return NotMeasured("; ".join(reason.reason for reason in reasons), remedies)


def _open_ina(chosen: Tuple[str, ...], root: Path) -> Opened:
    found: List[SysfsRail] = [*ina3221_iio.find_rails(root), *ina3221_hwmon.find_rails(root), *ina238.find_rails(root)]
    if not found:
        return NotMeasured("the kernel shows no INA3221 or INA238 monitor (the Nano 2GB has none)")
    names = [rail.name for rail in found]
    total = _total(names, chosen)
    if total is None:
        return NotMeasured(
            f"rails of no known module: {', '.join(names)}; their sum would be a guess",
            "name those that make the total: --power-rails NAME,NAME",
        )
    try:
        meter = SysfsMeter(found, total)
        meter.read()
    except LostReadingError as error:
        return NotMeasured(error.message, _remedy(error))
    return meter


def _remedy(error: LostReadingError) -> str:
    if isinstance(error.__cause__, PermissionError):
        return "run as root, or let your user read the monitor's files"
    return "this rail is part of the total and does not answer: choose others (--power-rails), or --power tegrastats"


def _total(names: Sequence[str], chosen: Tuple[str, ...]) -> Union[Total, None]:
    try:
        return chosen_total(names, chosen) if chosen else total_of(names)
    except ValueError as error:
        raise UsageError(f"--power-rails: {error}") from error


def _open_tegrastats(chosen: Tuple[str, ...], root: Path) -> Opened:
    path = find_tegrastats(root)
    if path is None:
        return NotMeasured("tegrastats is not installed (it comes with Jetson Linux)")
    try:
        return TegrastatsMeter([path], Total(chosen, "the chosen rails") if chosen else None)
    except MeterGoneError as error:
        return NotMeasured(error.message)


def _open_nvml() -> Opened:
    try:
        nvml = Nvml(cuda_bus_id())
    except DeviceError as error:
        return NotMeasured(error.message, error.remedy or "")
    try:
        return NvmlMeter(nvml)
    except DeviceError as error:
        nvml.close()
        return NotMeasured(error.message, error.remedy or "")


def _open_rapl(root: Path) -> Opened:
    domains = find_rapl(root)
    if not domains:
        return why_not_rapl(root)
    try:
        return RaplMeter(domains)
    except LostReadingError:
        return why_not_rapl(root)
