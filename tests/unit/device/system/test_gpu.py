from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from fake_builder import FakeDriver

from googlenet_deploy.device.system import gpu
from googlenet_deploy.device.system.gpu import Gpu, find_gpu
from googlenet_deploy.errors import DeviceError


def test_name_capability_and_free_memory() -> None:
    assert find_gpu(FakeDriver()) == Gpu("Fake GPU", (8, 7), 2**30)
    assert find_gpu(FakeDriver()).capability_text == "8.7"


def test_a_jetson_counts_what_the_system_would_give(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n")
    assert find_gpu(FakeDriver(integrated=True), tmp_path).free_memory == 4000000 * 1024
    assert find_gpu(FakeDriver(), tmp_path).free_memory == 2**30


@pytest.mark.parametrize("function", ["cuDevicePrimaryCtxRetain", "cuMemGetInfo_v2"])
def test_a_full_gpu_is_still_known_by_name(function: str) -> None:
    driver = FakeDriver()
    driver.status[function] = 2
    assert find_gpu(driver) == Gpu("Fake GPU", (8, 7), None)


def test_the_context_is_given_back() -> None:
    driver = FakeDriver()
    find_gpu(driver)
    assert driver.calls.count("cuDevicePrimaryCtxRetain") == driver.calls.count("cuDevicePrimaryCtxRelease_v2") == 1


def test_a_failing_driver_is_named_with_its_error() -> None:
    driver = FakeDriver()
    driver.status["cuInit"] = 100
    with pytest.raises(DeviceError, match="cuInit failed with CUDA_ERROR_FAKE"):
        find_gpu(driver)
    driver.status["cuGetErrorName"] = 1
    with pytest.raises(DeviceError, match="error 100"):
        find_gpu(driver)


def test_no_gpu_and_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver()
    driver.values["count"] = 0
    with pytest.raises(DeviceError, match="finds no GPU"):
        find_gpu(driver)
    monkeypatch.setattr(gpu, "_LIBRARY", "libcuda-that-nobody-has.so.1")
    with pytest.raises(DeviceError, match="there is no NVIDIA driver"):
        find_gpu()


def test_the_driver_is_loaded_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(name: str) -> FakeDriver:
        loaded.append(name)
        return FakeDriver((12, 0))

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert find_gpu().compute_capability == (12, 0)
    assert loaded == ["libcuda.so.1"]
