"""The power of a discrete GPU's board, measured by NVML: its energy counter, or else sampled power.

NVIDIA states 5 % for the power reading of Fermi and Kepler (NVML API Reference Guide, nvmlDeviceGetPowerUsage) and
nothing for later GPUs; 5 % is assumed for all. "Part-time Power Measurements" (Yang et al., arXiv:2312.02741) found
that some GPUs sample their power for only a quarter of the time, so the error for short or uneven loads can be larger.
From Ampere on (except GA100) the power reading is an average over one second, so only the counter resolves short
windows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Tuple

from googlenet_deploy.device.power.meter import Limits, MeterGoneError, NotMeasured, Opened, Rail
from googlenet_deploy.device.system.nvml import Nvml, cuda_bus_id
from googlenet_deploy.device.system.sysfs import LostReadingError
from googlenet_deploy.errors import DeviceError

RELATIVE_LIMIT = 0.05
COUNTER_PERIOD = 0.1
POWER_PERIOD = 0.05
AVERAGED_SECONDS = 1.0
STEP = 0.001  # one millijoule, one milliwatt
RAIL = "GPU"


class NvmlMeter:
    """See `meter.Meter`.

    Args:
        nvml: The opened GPU; closed with the meter.

    Raises:
        DeviceError: The GPU reports neither energy nor power.
    """

    covers = "GPU board"
    paced = False
    source = "NVML API Reference Guide (5 %, stated for Fermi and Kepler, taken for every GPU); arXiv:2312.02741"

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml
        self.notes: List[str] = []
        self.rails: Tuple[Rail, ...] = (Rail(RAIL, True, Limits(RELATIVE_LIMIT, 0.0, STEP)),)
        try:
            self._first = nvml.energy_millijoules()
            self.counts_energy = True
        except DeviceError:
            nvml.power_milliwatts()
            self.counts_energy = False
            self.notes.append("this GPU has no energy counter; its power may be an average over one second")
        self.period = COUNTER_PERIOD if self.counts_energy else POWER_PERIOD
        self.lag = COUNTER_PERIOD if self.counts_energy else AVERAGED_SECONDS
        self.name = "NVML energy counter" if self.counts_energy else "NVML sampled power"
        if nvml.count > 1:
            self.notes.append(f"one of {nvml.count} GPUs: {nvml.name()}")

    def read(self) -> Dict[str, float]:
        """Joules since the meter was opened, or watts; see `meter.Meter.read`."""
        try:
            if self.counts_energy:
                return {RAIL: (self._nvml.energy_millijoules() - self._first) / 1000}
            return {RAIL: self._nvml.power_milliwatts() / 1000}
        except LostReadingError:
            raise
        except DeviceError as error:
            raise MeterGoneError(error.message) from error

    def close(self) -> None:
        """Closes NVML."""
        self._nvml.close()


def open_nvml(chosen: Tuple[str, ...], root: Path) -> Opened:  # noqa: ARG001 - NVML has neither
    """Opens a meter of the GPU that CUDA uses, or returns why there is none; see `meter.MeterEntry`."""
    try:
        nvml = Nvml(cuda_bus_id())
    except DeviceError as error:
        return NotMeasured(error.message, error.remedy or "")
    try:
        return NvmlMeter(nvml)
    except DeviceError as error:
        nvml.close()
        return NotMeasured(error.message, error.remedy or "")
