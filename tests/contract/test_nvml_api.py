"""What is used of NVML, held against NVIDIA's own binding in cuda-bindings; it imports without a GPU."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

import pytest

from googlenet_deploy.device.system import nvml as ours

theirs: Any = pytest.importorskip("cuda.bindings.nvml", reason="cuda-bindings is not installed (the extra cuda)")
# Older names, which drivers keep for older programs, and what took their place.
RENAMED = {
    "nvmlDeviceGetCurrentClocksThrottleReasons": "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetTemperature": "nvmlDeviceGetTemperatureV",
}


def test_every_function_exists(repository: Path) -> None:
    from cuda.bindings._internal import nvml as functions

    source = (repository / "googlenet_deploy" / "device" / "system" / "nvml.py").read_text(encoding="utf-8")
    used = set(re.findall(r"\bnvml[A-Z]\w+(?=\"|\()", source))
    assert len(used) > 12
    assert [name for name in used if f"_{RENAMED.get(name, name)}" not in functions.__pyx_capi__] == []
    assert set(RENAMED.values()) <= used


def test_the_types_that_pointers_lead_to() -> None:
    from cuda.bindings._internal import nvml as functions

    expected = {
        "nvmlDeviceGetTotalEnergyConsumption": "nvmlReturn_t (nvmlDevice_t, unsigned PY_LONG_LONG *)",
        "nvmlDeviceGetCurrentClocksEventReasons": "nvmlReturn_t (nvmlDevice_t, unsigned PY_LONG_LONG *)",
        "nvmlDeviceGetPowerUsage": "nvmlReturn_t (nvmlDevice_t, unsigned int *)",
        "nvmlDeviceGetEnforcedPowerLimit": "nvmlReturn_t (nvmlDevice_t, unsigned int *)",
        "nvmlDeviceGetClockInfo": "nvmlReturn_t (nvmlDevice_t, nvmlClockType_t, unsigned int *)",
        "nvmlDeviceGetMaxClockInfo": "nvmlReturn_t (nvmlDevice_t, nvmlClockType_t, unsigned int *)",
        "nvmlDeviceGetName": "nvmlReturn_t (nvmlDevice_t, char *, unsigned int)",
        "nvmlSystemGetDriverVersion": "nvmlReturn_t (char *, unsigned int)",
        "nvmlDeviceGetHandleByPciBusId_v2": "nvmlReturn_t (char const *, nvmlDevice_t *)",
    }
    for name, signature in expected.items():
        assert f'"{signature}"' in str(functions.__pyx_capi__[f"_{name}"])


def test_structures_and_constants() -> None:
    layout = theirs.process_info_dtype
    names = ("pid", "usedGpuMemory", "gpuInstanceId", "computeInstanceId")
    assert [getattr(ours._ProcessInfo, name).offset for name in names] == [
        layout.fields[key][1] for key in layout.names
    ]
    assert layout.itemsize == ctypes.sizeof(ours._ProcessInfo)
    clocks = theirs.ClockType
    assert (ours.CLOCK_GRAPHICS, ours.CLOCK_SM, ours.CLOCK_MEMORY) == (clocks.GRAPHICS, clocks.SM, clocks.MEM)
    assert int(theirs.Return.ERROR_NOT_SUPPORTED) == ours.NOT_SUPPORTED
    words = {
        "no permission": "ERROR_NO_PERMISSION",
        "the GPU is lost": "ERROR_GPU_IS_LOST",
        "the driver is not loaded": "ERROR_DRIVER_NOT_LOADED",
        "library and driver do not match": "ERROR_LIB_RM_VERSION_MISMATCH",
        "timed out": "ERROR_TIMEOUT",
    }
    for text, name in words.items():
        assert ours._STATUS[int(getattr(theirs.Return, name))] == text


def test_reasons_for_slower_clocks() -> None:
    bits = {int(reason): reason.name for reason in theirs.ClocksEventReasons}
    expected = {
        "power cap": "SW_POWER_CAP",
        "hardware slowdown": "HW_SLOWDOWN",
        "thermal slowdown (software)": "SW_THERMAL_SLOWDOWN",
        "thermal slowdown (hardware)": "HW_THERMAL_SLOWDOWN",
        "power brake": "HW_POWER_BRAKE_SLOWDOWN",
        "board limit": "BOARD_LIMIT",
        "reliability limit": "RELIABILITY",
    }
    assert {name: bits[bit].partition("REASON_")[2] for bit, name in ours.THROTTLE_REASONS} == expected
