"""A fake libnvidia-ml with the same calling convention."""

from __future__ import annotations

import ctypes
from typing import Any


class FakeNvml:
    """Behaves like the C library: writes through pointers, returns a status.

    Attributes:
        status: Status by function; 0 if it is not listed.
        values: Results of numeric queries.
        calls: Functions that were called, in order.
    """

    def __init__(self, **values: int) -> None:
        self.values = {"nvmlDeviceGetCount_v2": 1, **values}
        self.status: dict[str, int] = {}
        self.missing = {"nvmlDeviceGetTemperatureV", "nvmlDeviceGetCurrentClocksEventReasons"}  # as in older drivers
        self.calls: list[str] = []
        self.processes: list[tuple[int, int]] = []
        self.bus_id = b""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml") or name in self.missing:
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if self.status.get(name):
                return self.status[name]
            self._answer(name, arguments)
            return 0

        return call

    def _answer(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name in ("nvmlInit_v2", "nvmlShutdown"):
            return
        if name == "nvmlDeviceGetHandleByPciBusId_v2":
            self.bus_id = arguments[0]
        elif name in ("nvmlDeviceGetName", "nvmlSystemGetDriverVersion"):
            arguments[-2].value = b"NVIDIA Test" if "Name" in name else b"570.1"
        elif name == "nvmlDeviceGetComputeRunningProcesses_v3":
            count, entries = arguments[1]._obj, arguments[2]._obj
            count.value = len(self.processes)
            for entry, (pid, size) in zip(entries, self.processes, strict=False):
                entry.pid, entry.usedGpuMemory = pid, size
        elif name == "nvmlDeviceGetTemperatureV":
            request = arguments[1]._obj
            assert request.version == 0x100000C
            request.temperature = self.values[name]
        else:
            target = arguments[-1]._obj
            key = f"{name}({arguments[1]})" if len(arguments) == 3 and isinstance(arguments[1], int) else name
            if not isinstance(target, ctypes.c_void_p):
                target.value = self.values.get(key, self.values.get(name, 0))
