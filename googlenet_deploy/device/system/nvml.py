"""NVIDIA's management library: energy, power, clocks, temperature and memory of a discrete GPU.

It is called through ctypes: the library comes with the driver, its C interface is stable (NVML API Reference Guide),
and nothing is installed into a Jetson's Python. On Jetsons it exists, but answers most calls with "Not Supported".
"""

from __future__ import annotations

import ctypes
import os
from typing import Any, Dict, List, Optional, Tuple

from googlenet_deploy.device.system.sysfs import LostReadingError
from googlenet_deploy.errors import DeviceError

LIBRARY = "libnvidia-ml.so.1"
NOT_SUPPORTED = 3
CLOCK_GRAPHICS, CLOCK_SM, CLOCK_MEMORY = 0, 1, 2
_TEXT = 128
_UNKNOWN_MEMORY = 2**64 - 1
# nvmlClocksEventReasons, those that slow the clocks against the GPU's will.
THROTTLE_REASONS: Tuple[Tuple[int, str], ...] = (
    (0x0000000000000004, "power cap"),
    (0x0000000000000008, "hardware slowdown"),
    (0x0000000000000020, "thermal slowdown (software)"),
    (0x0000000000000040, "thermal slowdown (hardware)"),
    (0x0000000000000080, "power brake"),
    (0x0000000000000200, "board limit"),
    (0x0000000000000400, "reliability limit"),
)


class _ProcessInfo(ctypes.Structure):
    """nvmlProcessInfo_v2_t."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("usedGpuMemory", ctypes.c_ulonglong),
        ("gpuInstanceId", ctypes.c_uint),
        ("computeInstanceId", ctypes.c_uint),
    )


class _Temperature(ctypes.Structure):
    """nvmlTemperature_v1_t."""

    _fields_ = (("version", ctypes.c_uint), ("sensorType", ctypes.c_int), ("temperature", ctypes.c_int))


_TEMPERATURE_VERSION = ctypes.sizeof(_Temperature) | 1 << 24  # NVML_STRUCT_VERSION(Temperature, 1)


class Nvml:
    """One GPU; a context manager.

    Args:
        bus_id: Its PCI bus id, such as ``0000:3B:00.0``; None selects the first in NVML's order.
        library: The opened library; None opens the driver's.

    Raises:
        DeviceError: The library is missing, too old, or finds no driver or GPU.
    """

    def __init__(self, bus_id: Optional[str] = None, library: Any = None) -> None:  # noqa: ANN401 - a ctypes library
        self._library = _open() if library is None else library
        self._call("nvmlInit_v2")
        try:
            count = ctypes.c_uint()
            self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
            self.count = count.value
            self._device = ctypes.c_void_p()
            if bus_id:
                self._call("nvmlDeviceGetHandleByPciBusId_v2", bus_id.encode(), ctypes.byref(self._device))
            else:
                self._call("nvmlDeviceGetHandleByIndex_v2", 0, ctypes.byref(self._device))
        except DeviceError:
            self.close()
            raise

    def __enter__(self) -> Nvml:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the library."""
        self.close()

    def close(self) -> None:
        """Closes the library."""
        self._library.nvmlShutdown()

    def name(self) -> str:
        """The GPU's name."""
        return self._text("nvmlDeviceGetName", self._device)

    def driver(self) -> str:
        """The driver's version."""
        return self._text("nvmlSystemGetDriverVersion")

    def energy_millijoules(self) -> int:
        """Energy since the driver was loaded (Volta and later)."""
        value = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetTotalEnergyConsumption", self._device, ctypes.byref(value))
        return value.value

    def power_milliwatts(self) -> int:
        """Power of the board."""
        return self._unsigned("nvmlDeviceGetPowerUsage")

    def power_limit_milliwatts(self) -> int:
        """The enforced power limit."""
        return self._unsigned("nvmlDeviceGetEnforcedPowerLimit")

    def clock_mhz(self, kind: int) -> int:
        """The current frequency of `CLOCK_GRAPHICS`, `CLOCK_SM` or `CLOCK_MEMORY`."""
        return self._unsigned("nvmlDeviceGetClockInfo", kind)

    def largest_clock_mhz(self, kind: int) -> int:
        """The maximum frequency of the same clock."""
        return self._unsigned("nvmlDeviceGetMaxClockInfo", kind)

    def celsius(self) -> int:
        """Temperature of the die."""
        if not hasattr(self._library, "nvmlDeviceGetTemperatureV"):  # before CUDA 12.8
            return self._unsigned("nvmlDeviceGetTemperature", 0)
        value = _Temperature(version=_TEMPERATURE_VERSION)
        self._call("nvmlDeviceGetTemperatureV", self._device, ctypes.byref(value))
        return int(value.temperature)

    def throttle_reasons(self) -> List[str]:
        """What slows the clocks now, against the GPU's will."""
        value = ctypes.c_ulonglong()
        names = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
        name = next((name for name in names if hasattr(self._library, name)), names[0])
        self._call(name, self._device, ctypes.byref(value))
        return [name for bit, name in THROTTLE_REASONS if value.value & bit]

    def process_bytes(self, pid: Optional[int] = None) -> Optional[int]:
        """Device memory of a process, by default this one; None if the driver does not report it."""
        count = ctypes.c_uint(64)
        processes = (_ProcessInfo * count.value)()
        self._call(
            "nvmlDeviceGetComputeRunningProcesses_v3", self._device, ctypes.byref(count), ctypes.byref(processes)
        )
        wanted = os.getpid() if pid is None else pid
        for entry in processes[: count.value]:
            if entry.pid == wanted and entry.usedGpuMemory != _UNKNOWN_MEMORY:
                return int(entry.usedGpuMemory)
        return None

    def _unsigned(self, function: str, *arguments: int) -> int:
        value = ctypes.c_uint()
        self._call(function, self._device, *arguments, ctypes.byref(value))
        return value.value

    def _text(self, function: str, *arguments: Any) -> str:  # noqa: ANN401 - a handle
        text = ctypes.create_string_buffer(_TEXT)
        self._call(function, *arguments, text, _TEXT)
        return text.value.decode("utf-8", "replace")

    def _call(self, function: str, *arguments: Any) -> None:  # noqa: ANN401 - whatever C takes
        try:
            entry = getattr(self._library, function)
        except AttributeError:
            raise DeviceError(f"NVML: this driver has no {function}", "install a newer driver") from None
        status = entry(*arguments)
        if status != 0:
            raise _error(function, status)


def _error(function: str, status: int) -> DeviceError:
    words = _STATUS.get(status, f"status {status}")
    if status == NOT_SUPPORTED:
        return DeviceError(f"NVML: {function}: {words}", "on a Jetson, power comes from its INA monitors")
    return (
        LostReadingError(f"NVML: {function}: {words}")
        if status in _PASSING
        else DeviceError(f"NVML: {function}: {words}", "does nvidia-smi work?")
    )


# nvmlReturn_t.
_STATUS: Dict[int, str] = {
    1: "not initialised", 2: "invalid argument", 3: "not supported", 4: "no permission", 6: "no such GPU",
    7: "buffer too small", 9: "the driver is not loaded", 10: "timed out", 15: "the GPU is lost",
    18: "library and driver do not match", 28: "no such GPU", 999: "unknown error",
}  # fmt: skip
_PASSING = (10, 999)


def _open() -> Any:  # noqa: ANN401 - a ctypes library
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise DeviceError(f"NVML: {LIBRARY} cannot be loaded: {error}", "it comes with NVIDIA's driver") from error


def cuda_bus_id(library: Any = None) -> Optional[str]:  # noqa: ANN401 - a ctypes library
    """PCI bus id of CUDA's GPU 0, according to CUDA_VISIBLE_DEVICES; None if CUDA does not report it.

    CUDA and NVML count GPUs in different orders.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1") if library is None else library
        text = ctypes.create_string_buffer(_TEXT)
        device = ctypes.c_int()
        statuses = (
            cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0) or cuda.cuDeviceGetPCIBusId(text, _TEXT, device)
        )
    except (OSError, AttributeError):
        return None
    return text.value.decode("ascii", "replace") if statuses == 0 else None
