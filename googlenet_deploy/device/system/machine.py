"""The machine that a measurement runs on, and its state before, during and after."""

from __future__ import annotations

import os
import platform
import re
import statistics
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from googlenet_deploy.device.system.clocks import Clock, cpu_clocks, gpu_clock, memory_mhz
from googlenet_deploy.device.system.jetson import find_jetson, power_mode
from googlenet_deploy.device.system.nvml import CLOCK_MEMORY, CLOCK_SM, Nvml
from googlenet_deploy.device.system.sysfs import try_text
from googlenet_deploy.device.system.thermal import Zone, thermal_zones, throttle_counts
from googlenet_deploy.errors import DeviceError

OBSERVATION_PERIOD = 0.5
# A drop of a clock under load by more than this is reported.
CLOCK_DROP = 0.05
MINIMUM_TO_COMPARE = 4


@dataclass(frozen=True)
class Machine:
    """What does not change while a measurement runs.

    Attributes:
        model: Model of the Jetson or computer.
        processor: Name of the CPU.
        cores: Cores that this process may use.
        memory_bytes: Main memory.
        gpu: Name of the discrete GPU; "" without one.
        driver: Version of its driver.
        jetpack: JetPack of a Jetson.
        l4t: L4T of a Jetson.
        system: Operating system and kernel.
        python: Python version.
    """

    model: str
    processor: str
    cores: int
    memory_bytes: Optional[int]
    gpu: str
    driver: str
    jetpack: str
    l4t: str
    system: str
    python: str


@dataclass(frozen=True)
class MachineState:
    """What changes.

    Attributes:
        power_mode: Mode of nvpmodel; "" on other machines.
        gpu: Clock of the GPU; None if unknown.
        cpu: Clocks of the processor.
        memory_mhz: Clock of the memory: a Jetson's, or the discrete GPU's.
        zones: Temperatures.
        counts: Throttling events since the start of the system, by cause.
        slowed_by: What slows the discrete GPU now.
        load_average: Runnable processes over the last minute; None if the kernel does not report it.
    """

    power_mode: str
    gpu: Optional[Clock]
    cpu: Tuple[Clock, ...]
    memory_mhz: Optional[float]
    zones: Tuple[Zone, ...]
    counts: Dict[str, int] = field(default_factory=dict)
    slowed_by: Tuple[str, ...] = ()
    load_average: Optional[float] = None

    def to_dict(self) -> Dict[str, Any]:
        """For JSON."""
        return {
            "power_mode": self.power_mode,
            "gpu_clock": None if self.gpu is None else {**asdict(self.gpu), "locked": self.gpu.locked},
            "cpu_clocks": [asdict(clock) for clock in self.cpu],
            "memory_mhz": self.memory_mhz,
            "celsius": {zone.name: zone.celsius for zone in self.zones},
            "throttle_counts": dict(self.counts),
            "slowed_by": list(self.slowed_by),
            "load_average": self.load_average,
        }


def describe_machine(root: Path = Path("/"), nvml: Optional[Nvml] = None) -> Machine:
    """Describes this machine.

    Args:
        root: Root of the file system.
        nvml: The discrete GPU; None without one.
    """
    jetson = find_jetson(root)
    memory = re.search(r"MemTotal:\s*(\d+) kB", try_text(root / "proc/meminfo"))
    return Machine(
        model=jetson.model if jetson else try_text(root / "sys/class/dmi/id/product_name"),
        processor=_processor(root),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=int(memory.group(1)) * 1024 if memory else None,
        gpu=_told(nvml.name) if nvml else "",
        driver=_told(nvml.driver) if nvml else "",
        jetpack=jetson.jetpack if jetson else "",
        l4t=jetson.l4t if jetson else "",
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
    )


def read_state(root: Path = Path("/"), nvml: Optional[Nvml] = None, *, quick: bool = False) -> MachineState:
    """Reads the current state.

    Args:
        root: Root of the file system.
        nvml: The discrete GPU; None without one.
        quick: Leave out the power mode, which may take a subprocess, and the counters.
    """
    state = MachineState(
        power_mode="" if quick else power_mode(root),
        gpu=gpu_clock(root),
        cpu=cpu_clocks(root),
        memory_mhz=memory_mhz(root),
        zones=tuple(thermal_zones(root)),
        counts={} if quick else throttle_counts(root),
        load_average=_load_average(root),
    )
    return state if nvml is None else _with_discrete_gpu(state, nvml)


def _with_discrete_gpu(state: MachineState, nvml: Nvml) -> MachineState:
    with suppress(DeviceError):  # values that a GPU does not report are left out
        clock = Clock(nvml.name(), float(nvml.clock_mhz(CLOCK_SM)), None, float(nvml.largest_clock_mhz(CLOCK_SM)), "")
        state = replace(state, gpu=clock, memory_mhz=float(nvml.clock_mhz(CLOCK_MEMORY)))
    with suppress(DeviceError):
        state = replace(state, zones=(*state.zones, Zone("GPU", float(nvml.celsius()), None)))
    with suppress(DeviceError):
        state = replace(state, slowed_by=tuple(nvml.throttle_reasons()))
    return state


class LoadMonitor:
    """Samples clocks and temperatures in a thread while the load runs.

    Args:
        root: Root of the file system.
        nvml: The discrete GPU; None without one.
    """

    def __init__(self, root: Path = Path("/"), nvml: Optional[Nvml] = None) -> None:
        self.root, self.nvml = root, nvml
        self.gpu_mhz: List[float] = []
        self.cpu_mhz: List[float] = []
        self.hottest: Dict[str, float] = {}
        self.slowed_by: Set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clocks", daemon=True)

    def __enter__(self) -> LoadMonitor:
        """Starts sampling."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join()

    def observe(self) -> None:
        """Takes one sample."""
        state = read_state(self.root, self.nvml, quick=True)
        if state.gpu is not None and state.gpu.mhz is not None:
            self.gpu_mhz.append(state.gpu.mhz)
        cpu = [clock.mhz for clock in state.cpu if clock.mhz is not None]
        if cpu:
            self.cpu_mhz.append(max(cpu))
        for zone in state.zones:
            self.hottest[zone.name] = max(zone.celsius, self.hottest.get(zone.name, zone.celsius))
            if zone.passive is not None and zone.celsius >= zone.passive:
                self.slowed_by.add(f"heat ({zone.name} reached {zone.passive:g} degrees Celsius)")
        self.slowed_by.update(state.slowed_by)

    def to_dict(self) -> Dict[str, Any]:
        """For JSON: lowest, median and highest clock under load, and the highest temperatures."""
        return {
            "observations": max(len(self.gpu_mhz), len(self.cpu_mhz)),
            "gpu_mhz": _range(self.gpu_mhz),
            "cpu_mhz": _range(self.cpu_mhz),
            "hottest_celsius": dict(self.hottest),
        }

    def _run(self) -> None:
        while not self._stop.wait(OBSERVATION_PERIOD):
            self.observe()


def throttling(before: MachineState, load: LoadMonitor, after: MachineState) -> List[str]:
    """What slowed the machine down during the measurement; empty if nothing was detected.

    Counters that rose, reasons reported by the GPU's driver, zones that reached their passive trip point, and a GPU
    clock whose later half under load is more than 5 % below its earlier half.
    """
    found = sorted(load.slowed_by)
    for cause, count in after.counts.items():
        rise = count - before.counts.get(cause, 0)
        if rise > 0:
            found.append(f"{cause}: {rise} events")
    half = len(load.gpu_mhz) // 2
    if half >= MINIMUM_TO_COMPARE:
        early, late = statistics.median(load.gpu_mhz[:half]), statistics.median(load.gpu_mhz[half:])
        if late < (1 - CLOCK_DROP) * early:
            found.append(f"the GPU's clock fell from {early:.0f} to {late:.0f} MHz under load")
    if before.power_mode != after.power_mode:
        found.append(f"the power mode changed from {before.power_mode or '?'} to {after.power_mode or '?'}")
    return found


def _range(values: List[float]) -> Optional[Dict[str, float]]:
    if not values:
        return None
    return {"lowest": min(values), "median": statistics.median(values), "highest": max(values)}


def _told(question: Callable[[], str]) -> str:
    try:
        return question()
    except DeviceError:
        return ""


def _load_average(root: Path) -> Optional[float]:
    match = re.match(r"([\d.]+) ", try_text(root / "proc/loadavg"))
    return float(match.group(1)) if match else None


def _processor(root: Path) -> str:
    match = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", try_text(root / "proc/cpuinfo"), re.MULTILINE)
    return match.group(1).strip() if match else platform.processor() or platform.machine()
