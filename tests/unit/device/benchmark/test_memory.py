from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from fake_nvml import FakeNvml

from googlenet_deploy.device.benchmark import memory as module
from googlenet_deploy.device.benchmark.memory import Memory, memory_dict, read_memory
from googlenet_deploy.device.system.nvml import Nvml
from googlenet_deploy.errors import DeviceError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text("Name: x\nVmHWM:\t   2000 kB\nVmRSS:\t   1500 kB\n")
    return tmp_path


class FakeCuda:
    def __enter__(self) -> FakeCuda:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def memory(self) -> tuple[int, int]:
        return 300, 1000


def test_on_a_cpu_the_device_is_not_asked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_cuda", lambda: pytest.fail("was asked"))
    assert read_memory(None, on_gpu=False, root=root) == Memory(1500 * 1024, 2000 * 1024)


def test_on_a_gpu(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_cuda", FakeCuda)
    library = FakeNvml()
    library.processes = [(os.getpid(), 123)]
    assert read_memory(Nvml(library=library), on_gpu=True, root=root)[2:] == (700, 123)
    library.status["nvmlDeviceGetComputeRunningProcesses_v3"] = 3
    assert read_memory(Nvml(library=library), on_gpu=True, root=root)[2:] == (700, None)


def test_a_gpu_that_nobody_tells_of(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_cuda() -> Any:
        raise DeviceError("no CUDA")

    monkeypatch.setattr(module, "open_cuda", no_cuda)
    assert read_memory(None, on_gpu=True, root=root)[2:] == (None, None)


def test_a_system_that_does_not_tell(tmp_path: Path) -> None:
    assert read_memory(None, on_gpu=False, root=tmp_path) == Memory(None, None)


def test_this_process_has_memory() -> None:
    found = read_memory(None, on_gpu=False)
    assert found.resident is not None
    assert found.peak is not None
    assert 10_000_000 < found.resident <= found.peak


def test_as_json() -> None:
    before, loaded, after = Memory(1, 2, 10, None), Memory(3, 4, 20, None), Memory(5, 6, 30, 7)
    told = memory_dict(before, loaded, after, 99, on_gpu=True)
    assert told["process"] == {
        "resident_before_model": 1,
        "resident_with_model": 3,
        "resident_after": 5,
        "peak": 6,
    }
    assert told["device"] == {
        "all_processes_before_model": 10,
        "all_processes_with_model": 20,
        "all_processes_after": 30,
        "this_process_after": 7,
        "execution_context": 99,
    }
