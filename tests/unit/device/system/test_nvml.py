from __future__ import annotations

import itertools
import os
from typing import Any

import pytest
from fake_clock import FakeClock
from fake_nvml import FakeNvml

from googlenet_deploy.device.power import select
from googlenet_deploy.device.power.energy import Energy, window_for
from googlenet_deploy.device.power.meter import MeterGoneError, NotMeasured
from googlenet_deploy.device.power.nvml_meter import NvmlMeter
from googlenet_deploy.device.power.sampler import Sampler
from googlenet_deploy.device.system import nvml as module
from googlenet_deploy.device.system.nvml import CLOCK_MEMORY, CLOCK_SM, Nvml, cuda_bus_id
from googlenet_deploy.device.system.sysfs import LostReadingError
from googlenet_deploy.errors import DeviceError

ENERGY = "nvmlDeviceGetTotalEnergyConsumption"
POWER = "nvmlDeviceGetPowerUsage"


def test_what_it_tells_of_a_gpu() -> None:
    library = FakeNvml(
        **{
            ENERGY: 123_456_789_012,
            POWER: 71_250,
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
            f"nvmlDeviceGetClockInfo({CLOCK_SM})": 1755,
            f"nvmlDeviceGetClockInfo({CLOCK_MEMORY})": 2619,
            f"nvmlDeviceGetMaxClockInfo({CLOCK_SM})": 1980,
            "nvmlDeviceGetTemperature(0)": 41,
            "nvmlDeviceGetCurrentClocksThrottleReasons": 0x24,
        }
    )
    library.processes = [(1, 500), (os.getpid(), 700 << 20)]
    with Nvml(library=library) as gpu:
        assert (gpu.name(), gpu.driver()) == ("NVIDIA Test", "570.1")
        assert gpu.energy_millijoules() == 123_456_789_012
        assert (gpu.power_milliwatts(), gpu.power_limit_milliwatts()) == (71_250, 700_000)
        assert (gpu.clock_mhz(CLOCK_SM), gpu.clock_mhz(CLOCK_MEMORY)) == (1755, 2619)
        assert gpu.largest_clock_mhz(CLOCK_SM) == 1980
        assert gpu.celsius() == 41
        assert gpu.throttle_reasons() == ["power cap", "thermal slowdown (software)"]
        assert gpu.process_bytes() == 700 << 20
        assert gpu.process_bytes(2) is None
    assert library.calls[-1] == "nvmlShutdown"


def test_names_of_newer_drivers() -> None:
    library = FakeNvml(nvmlDeviceGetTemperatureV=43, nvmlDeviceGetCurrentClocksEventReasons=0x200)
    library.missing = {"nvmlDeviceGetTemperature", "nvmlDeviceGetCurrentClocksThrottleReasons"}
    gpu = Nvml(library=library)
    assert gpu.celsius() == 43
    assert gpu.throttle_reasons() == ["board limit"]


def test_memory_that_the_driver_does_not_tell() -> None:
    library = FakeNvml()
    library.processes = [(os.getpid(), 2**64 - 1)]
    assert Nvml(library=library).process_bytes() is None


def test_the_gpu_that_cuda_counts_first_is_found_by_its_bus_id() -> None:
    library = FakeNvml()
    Nvml("0000:3B:00.0", library=library)
    assert library.bus_id == b"0000:3B:00.0"
    assert "nvmlDeviceGetHandleByIndex_v2" not in library.calls


class FakeCuda:
    def __init__(self, status: int) -> None:
        self.status = status

    def cuInit(self, flags: int) -> int:
        return self.status

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        return 0

    def cuDeviceGetPCIBusId(self, text: Any, size: int, device: Any) -> int:
        text.value = b"0000:3B:00.0"
        return 0


def test_cudas_bus_id() -> None:
    assert cuda_bus_id(FakeCuda(0)) == "0000:3B:00.0"
    assert cuda_bus_id(FakeCuda(100)) is None
    assert cuda_bus_id(object()) is None


def test_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIBRARY", "libnot-there.so.1")
    with pytest.raises(DeviceError, match=r"libnot-there.* cannot be loaded") as error:
        Nvml()
    assert "driver" in (error.value.remedy or "")
    answer = select.open_meter("nvml")
    assert isinstance(answer, NotMeasured)
    assert "cannot be loaded" in answer.reason


def test_a_driver_that_is_not_loaded() -> None:
    library = FakeNvml()
    library.status["nvmlInit_v2"] = 9
    with pytest.raises(DeviceError, match="nvmlInit_v2: the driver is not loaded"):
        Nvml(library=library)


def test_no_gpu_closes_the_library_again() -> None:
    library = FakeNvml()
    library.status["nvmlDeviceGetHandleByIndex_v2"] = 6
    with pytest.raises(DeviceError, match="no such GPU"):
        Nvml(library=library)
    assert library.calls[-1] == "nvmlShutdown"


def test_an_old_driver_without_a_function() -> None:
    library = FakeNvml()
    library.missing.add(ENERGY)
    with pytest.raises(DeviceError, match=f"has no {ENERGY}"):
        Nvml(library=library).energy_millijoules()


def test_an_unknown_status_is_told_by_its_number() -> None:
    library = FakeNvml()
    library.status[POWER] = 77
    with pytest.raises(DeviceError, match="status 77"):
        Nvml(library=library).power_milliwatts()


def sampled(library: FakeNvml, clock: FakeClock, watts: float, count: int) -> Any:
    meter = NvmlMeter(Nvml(library=library))
    sampler = Sampler(meter, clock)
    for step in itertools.count():
        library.values[ENERGY] = 10**12 + round(watts * (clock() - 100.0) * 1000)
        library.values[POWER] = round(watts * 1000)
        if step == count or not sampler.sample():
            return meter, sampler
        clock.advance(meter.period)
    raise AssertionError


def test_energy_by_the_counter() -> None:
    clock = FakeClock()
    meter, sampler = sampled(FakeNvml(**{ENERGY: 10**12}), clock, 312.5, 60)
    assert meter.name == "NVML energy counter"
    energy = sampler.energy(100.77, 104.77)
    assert isinstance(energy, Energy)
    assert energy.joules == pytest.approx(1250, rel=0.01)
    assert energy.relative_limit == 0.05


def test_energy_by_sampled_power_needs_a_long_window() -> None:
    clock, library = FakeClock(), FakeNvml()
    library.status[ENERGY] = 3
    meter, sampler = sampled(library, clock, 55.5, 300)
    assert meter.name == "NVML sampled power"
    assert window_for(meter, 1.0) == 10.0
    energy = sampler.energy(100.5, 110.5)
    assert isinstance(energy, Energy)
    assert energy.joules == pytest.approx(555, rel=0.01)
    assert any("no energy counter" in note for note in energy.notes)


def test_a_jetsons_library_gives_neither() -> None:
    library = FakeNvml()
    library.status.update({ENERGY: 3, POWER: 3})
    with pytest.raises(DeviceError, match="not supported") as error:
        NvmlMeter(Nvml(library=library))
    assert "INA" in (error.value.remedy or "")


def test_a_gpu_that_gives_neither_is_no_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeNvml()
    library.status.update({ENERGY: 3, POWER: 3})
    monkeypatch.setattr(module, "_open", lambda: library)
    answer = select.open_meter("nvml")
    assert isinstance(answer, NotMeasured)
    assert "not supported" in answer.reason
    assert library.calls[-1] == "nvmlShutdown"


def test_a_gpu_that_falls_off_the_bus() -> None:
    clock, library = FakeClock(), FakeNvml(**{ENERGY: 10**12})
    meter, sampler = sampled(library, clock, 100, 60)
    library.status[ENERGY] = 15
    assert not sampler.sample()
    answer = sampler.energy(101.0, 110.0)
    assert isinstance(answer, NotMeasured)
    assert "the GPU is lost" in answer.reason
    with pytest.raises(MeterGoneError):
        meter.read()
    meter.close()


def test_a_passing_error_loses_one_reading() -> None:
    library = FakeNvml(**{ENERGY: 10**12})
    meter = NvmlMeter(Nvml(library=library))
    library.status[ENERGY] = 999
    with pytest.raises(LostReadingError):
        meter.read()


def test_one_of_several_gpus_is_named() -> None:
    meter = NvmlMeter(Nvml(library=FakeNvml(nvmlDeviceGetCount_v2=4)))
    assert meter.notes == ["one of 4 GPUs: NVIDIA Test"]
