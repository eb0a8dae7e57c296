"""A Jetson's built-in power monitors: INA3221 with either driver, or INA238."""

from __future__ import annotations

from pathlib import Path
from typing import List, Sequence, Tuple, Union

from googlenet_deploy.device.power import ina238, ina3221_hwmon, ina3221_iio
from googlenet_deploy.device.power.meter import NotMeasured, Opened
from googlenet_deploy.device.power.rails import Total, chosen_total, total_of
from googlenet_deploy.device.power.sysfs_rails import SysfsMeter, SysfsRail
from googlenet_deploy.device.system.sysfs import LostReadingError
from googlenet_deploy.errors import UsageError


def open_ina(chosen: Tuple[str, ...], root: Path) -> Opened:
    """Opens a meter of this module's monitors, or returns why there is none; see `meter.MeterEntry`.

    Raises:
        UsageError: One of the chosen rails does not exist.
    """
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
