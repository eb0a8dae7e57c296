"""The INA238 at the input of Thor's carrier board: ``power1_input`` in microwatts.

The mainline driver (Documentation/hwmon/ina238.rst) computes the power from the chip's registers.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import List

from googlenet_deploy.device.power.ina import ina238_limits
from googlenet_deploy.device.power.sysfs_rails import SysfsRail
from googlenet_deploy.device.system.sysfs import LostReadingError, read_int, try_int, try_text

NAME = "VIN"  # tegrastats' name, for device trees without a label
LARGEST_MICROWATTS = 5_000_000_000


def find_rails(root: Path = Path("/")) -> List[SysfsRail]:
    """Finds every INA238."""
    return [_rail(path) for path in sorted(root.glob("sys/bus/i2c/drivers/ina238/*/hwmon/hwmon*/power1_input"))]


def _rail(power: Path) -> SysfsRail:
    folder = power.parent
    millivolts, microohms = try_int(folder / "in1_input"), try_int(folder / "shunt_resistor")
    limits = ina238_limits(millivolts / 1000 if millivolts else None, microohms / 1e6 if microohms else None)
    return SysfsRail(try_text(folder / "label") or NAME, "INA238", limits, None, partial(_watts, power))


def _watts(path: Path) -> float:
    microwatts = read_int(path)
    if abs(microwatts) > LARGEST_MICROWATTS:
        raise LostReadingError(f"{path}: {microwatts} microwatts is not a possible power")
    return microwatts / 1e6
