"""Clocks of the GPU, the processor and the memory, as reported by the kernel.

GPU: ``/sys/class/devfreq`` whose device-tree node is gp10b, gv11b, ga10b, gb10b or gpu, or, on Thor with JetPack 7.2,
the device ``gpu-gpc-0`` without such a node (jetson_stats issue 885). Processor: cpufreq policies, else /proc/cpuinfo.
Memory: the debug files of BPMP, which only root can read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Tuple

from googlenet_deploy.device.system.sysfs import natural_key, try_int, try_text

_GPU_NODES = ("gp10b", "gv11b", "ga10b", "gb10b", "gpu")
_GPU_DEVICES = ("gpu-gpc-0",)
_MEMORY_RATES = ("sys/kernel/debug/bpmp/debug/clk/emc/rate", "sys/kernel/debug/clk/emc/clk_rate")


@dataclass(frozen=True)
class Clock:
    """A clock that changes with load.

    Attributes:
        name: What it drives.
        mhz: Current frequency; None if the device is powered down or does not report it.
        lowest: The lowest allowed, in MHz.
        highest: The highest allowed, in MHz.
        governor: What sets it.
    """

    name: str
    mhz: Optional[float]
    lowest: Optional[float]
    highest: Optional[float]
    governor: str

    @property
    def locked(self) -> bool:
        """Whether it cannot change, as after ``jetson_clocks``."""
        return self.lowest is not None and self.lowest == self.highest


def gpu_clock(root: Path = Path("/")) -> Optional[Clock]:
    """The clock of a Jetson's GPU; None on any other machine."""
    for device in sorted((root / "sys/class/devfreq").glob("*"), key=natural_key):
        node = try_text(device / "device/of_node/name")
        if node in _GPU_NODES or device.name in _GPU_DEVICES:
            now, lowest, highest = (_scaled(device / f"{kind}_freq", 1e6) for kind in ("cur", "min", "max"))
            return Clock(node or device.name, now, lowest, highest, try_text(device / "governor"))
    return None


def cpu_clocks(root: Path = Path("/")) -> Tuple[Clock, ...]:
    """The clocks of the processor: one per cpufreq policy, or one per core without cpufreq; empty if unknown."""
    clocks = []
    for policy in sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*"), key=natural_key):
        now, lowest, highest = (_scaled(policy / f"scaling_{kind}_freq", 1e3) for kind in ("cur", "min", "max"))
        clocks.append(Clock(policy.name, now, lowest, highest, try_text(policy / "scaling_governor")))
    if clocks:
        return tuple(clocks)
    found = re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", try_text(root / "proc/cpuinfo"), re.MULTILINE)
    return tuple(Clock(f"cpu{index}", float(mhz), None, None, "") for index, mhz in enumerate(found))


def memory_mhz(root: Path = Path("/")) -> Optional[float]:
    """The clock of a Jetson's memory controller; None if it is not reported."""
    rates: List[Optional[float]] = [_scaled(root / path, 1e6) for path in _MEMORY_RATES]
    return next((rate for rate in rates if rate is not None), None)


def _scaled(path: Path, unit: float) -> Optional[float]:
    value = try_int(path)
    return value / unit if value is not None and value > 0 else None
