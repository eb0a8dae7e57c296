"""INA3221 monitors in JetPack 5 and later: ``inN_input`` in mV times ``currN_input`` in mA.

The mainline driver (Documentation/hwmon/ina3221.rst) has no power attribute. ``in4`` to ``in6`` are shunt voltages and
``in7`` their sum; an unconnected channel is labelled NC.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Dict, List

from googlenet_deploy.device.power.ina import (
    INA3221_MAX_BUS_MILLIVOLTS,
    INA3221_MAX_SHUNT_VOLTS,
    SMALLEST_OHMS,
    UNCONNECTED,
    ina3221_limits,
)
from googlenet_deploy.device.power.sysfs_rails import SysfsRail
from googlenet_deploy.device.system.sysfs import LostReadingError, read_int, try_int, try_text

CHANNELS = (1, 2, 3)
LONGEST_INTERVAL = 60_000  # the chip's maximum: three channels, 8.244 ms for each voltage, 1024 readings averaged


def find_rails(root: Path = Path("/")) -> List[SysfsRail]:
    """Finds every labelled channel, in the order of the chips' addresses."""
    rails: Dict[str, SysfsRail] = {}
    for folder in (*sorted(root.glob("sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*")), *_by_class(root)):
        for channel in CHANNELS:
            name = try_text(folder / f"in{channel}_label")
            if name and name != UNCONNECTED:
                rails.setdefault(name, _rail(folder, channel, name))
    return list(rails.values())


def _by_class(root: Path) -> List[Path]:
    """Finds the chips if the driver's folder is hidden; otherwise their rails are already known."""
    return [name.parent for name in sorted(root.glob("sys/class/hwmon/hwmon*/name")) if try_text(name) == "ina3221"]


def _rail(folder: Path, channel: int, name: str) -> SysfsRail:
    voltage, current = folder / f"in{channel}_input", folder / f"curr{channel}_input"
    millivolts, microohms = try_int(voltage), try_int(folder / f"shunt{channel}_resistor")
    milliseconds = try_int(folder / "update_interval")
    return SysfsRail(
        name,
        "INA3221",
        ina3221_limits(millivolts / 1000 if millivolts else None, microohms / 1e6 if microohms else None),
        milliseconds / 1000 if milliseconds and 0 < milliseconds <= LONGEST_INTERVAL else None,
        partial(_watts, voltage, current),
    )


def _watts(voltage: Path, current: Path) -> float:
    millivolts, milliamperes = read_int(voltage), read_int(current)
    if not 0 <= millivolts <= INA3221_MAX_BUS_MILLIVOLTS:
        raise LostReadingError(f"{voltage}: {millivolts} mV is beyond what the chip can measure")
    if abs(milliamperes) > 1000 * INA3221_MAX_SHUNT_VOLTS / SMALLEST_OHMS:
        raise LostReadingError(f"{current}: {milliamperes} mA is beyond what the chip can measure")
    return millivolts * milliamperes / 1e6
