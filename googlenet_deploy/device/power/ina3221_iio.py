"""INA3221 monitors in JetPack 4: ``rail_name_N`` and ``in_powerN_input`` in milliwatts.

NVIDIA's kernel 4.9 has its own driver, ``ina3221x``, under ``/sys/bus/i2c/drivers/ina3221x/B-00AA/iio:deviceD``
(Tegra Linux Driver Package Development Guide 32.7, "Power Management").
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Dict, List

from googlenet_deploy.device.power.ina import UNCONNECTED, ina3221_limits
from googlenet_deploy.device.power.sysfs_rails import SysfsRail
from googlenet_deploy.device.system.sysfs import LostReadingError, read_int, try_int, try_text

# 32.76 V of bus and 163.8 mV across 2 milliohms: no valid reading is larger.
LARGEST_MILLIWATTS = 2_700_000


def find_rails(root: Path = Path("/")) -> List[SysfsRail]:
    """Finds every named channel, in the order of the chips' addresses."""
    rails: Dict[str, SysfsRail] = {}
    folders = ("sys/bus/i2c/drivers/ina3221x/*/iio:device*", "sys/bus/iio/devices/iio:device*")
    for path in (path for folder in folders for path in sorted(root.glob(f"{folder}/rail_name_*"))):
        name, channel = try_text(path), path.name.rpartition("_")[2]
        if name and name != UNCONNECTED:
            millivolts = try_int(path.parent / f"in_voltage{channel}_input")
            rails.setdefault(
                name,
                SysfsRail(
                    name,
                    "INA3221",
                    ina3221_limits(millivolts / 1000 if millivolts else None),
                    None,
                    partial(_watts, path.parent / f"in_power{channel}_input"),
                ),
            )
    return list(rails.values())


def _watts(path: Path) -> float:
    milliwatts = read_int(path)
    if abs(milliwatts) > LARGEST_MILLIWATTS:
        raise LostReadingError(f"{path}: {milliwatts} mW is beyond what the chip can measure")
    return milliwatts / 1000
