"""Temperatures, and counters of clocks slowed by heat or current.

Thermal zones: Documentation/driver-api/thermal/sysfs-api of the kernel, in thousandths of a degree. Counters: x86's
``thermal_throttle`` of each core, and ``ocN_event_cnt`` of the hwmon device ``soctherm_oc`` on Orin and Thor, which
counts under-voltage, average and instantaneous over-current events since the start (NVIDIA Jetson Linux Developer
Guide, "Jetson Orin ... Series", over-current throttling).
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

from googlenet_deploy.device.system.sysfs import natural_key, try_int, try_text

# Sensors of units without power read -256 or nothing; no die survives the upper limit.
LOWEST, HIGHEST = -40.0, 150.0
# The PMIC zone of Nano and TX2 has no sensor and always reads 100.
_CONSTANT = "PMIC"
_OVER_CURRENT = {"oc1": "under-voltage", "oc2": "average over-current", "oc3": "instantaneous over-current"}


class Zone(NamedTuple):
    """One thermal zone.

    Attributes:
        name: Its type.
        celsius: Its temperature.
        passive: Temperature at which the kernel starts to slow the clocks; None if it does not.
    """

    name: str
    celsius: float
    passive: Optional[float]


def thermal_zones(root: Path = Path("/")) -> List[Zone]:
    """Every zone with a plausible temperature."""
    zones = []
    for folder in sorted((root / "sys/class/thermal").glob("thermal_zone*"), key=natural_key):
        name, millidegrees = try_text(folder / "type"), try_int(folder / "temp")
        if not name or millidegrees is None or name.startswith(_CONSTANT):
            continue
        if LOWEST < millidegrees / 1000 < HIGHEST:
            zones.append(Zone(name, millidegrees / 1000, _passive_trip(folder)))
    return zones


def _passive_trip(folder: Path) -> Optional[float]:
    trips = []
    for kind in sorted(folder.glob("trip_point_*_type")):
        millidegrees = try_int(kind.parent / kind.name.replace("_type", "_temp"))
        if try_text(kind) == "passive" and millidegrees is not None and millidegrees > 0:
            trips.append(millidegrees / 1000)
    return min(trips, default=None)


def throttle_counts(root: Path = Path("/")) -> Dict[str, int]:
    """How often the clocks have been slowed since the start, by cause; causes that are not counted are absent."""
    counts: Dict[str, int] = {}
    for path in sorted((root / "sys/devices/system/cpu").glob("cpu*/thermal_throttle/*_throttle_count")):
        value = try_int(path)
        if value is not None:
            cause = "processor heat (package)" if path.name.startswith("package") else "processor heat (core)"
            counts[cause] = counts.get(cause, 0) + value
    for name in sorted((root / "sys/class/hwmon").glob("hwmon*/name")):
        if try_text(name) == "soctherm_oc":
            counts.update(_over_current(name.parent))
    return counts


def _over_current(folder: Path) -> Dict[str, int]:
    found = {}
    for path in sorted(folder.glob("oc*_event_cnt")):
        value, event = try_int(path), path.name.partition("_")[0]
        if value is not None:
            found[f"{_OVER_CURRENT.get(event, 'over-current')} ({event})"] = value
    return found
