"""A clock that moves only by what is run on it, a model for that clock, and a result of every kind."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_clock import FakeClock

from googlenet_deploy.device.onnx_model.metadata import ModelMetadata
from googlenet_deploy.device.runner.protocol import TensorSpec
from googlenet_deploy.device.specification import Preprocessing

SMALL = Preprocessing(resize=8, crop=(8, 8))


class TimedModel:
    """A runner that takes what `seconds` says on the fake clock, per batch."""

    backend, device, path = "Test 1.0 (CPU)", "CPU", "model.onnx"
    input = TensorSpec("input", (None, 3, 8, 8), "float32")
    outputs = (TensorSpec("logits", (None, 5), "float32"),)
    metadata = ModelMetadata(preprocessing=SMALL)
    batch_range: tuple[int, int | None] = (1, None)

    def __init__(self, clock: FakeClock, seconds: Callable[[int], float]) -> None:
        self.clock, self.seconds, self.runs = clock, seconds, 0
        self.batches: list[int] = []
        self.notes: list[str] = []
        self.closed = False

    def run(self, batch: Any) -> dict[str, Any]:
        self.clock.advance(self.seconds(self.runs))
        self.runs += 1
        self.batches.append(len(batch))
        return {"logits": np.tile(np.arange(5, dtype=np.float32), (len(batch), 1))}

    def __enter__(self) -> TimedModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


@pytest.fixture
def clock() -> FakeClock:
    """A clock that moves only by `advance`."""
    return FakeClock()


def figure(*rounds: float) -> dict[str, Any]:
    """A figure with its rounds."""
    return {"value": float(np.mean(rounds)), "interval_95": None, "rounds": list(rounds)}


def scope(*rounds: float) -> dict[str, Any]:
    """A scope whose every statistic is the same figure, but for p99.9."""
    missing = {"value": None, "not_measured": "needs 1000 runs, there were 500"}
    same = {name: figure(*rounds) for name in ("mean", "p50", "p90", "p95", "p99")}
    return {"runs": 500, "std": 0.1, "lowest": min(rounds), "highest": max(rounds), **same, "p99.9": missing}


@pytest.fixture
def make_result() -> Callable[..., dict[str, Any]]:
    """A result of a GPU with a power meter; `factor` slows everything down."""

    def make(factor: float = 1.0, **changes: Any) -> dict[str, Any]:
        rounds = [4.0 * factor, 4.04 * factor, 3.96 * factor]
        rates = [250 / factor, 248 / factor, 252 / factor]
        gpu = {"name": "ga10b", "mhz": 612.0, "lowest": 306.0, "highest": 1020.0, "governor": "x", "locked": False}
        state = {
            "power_mode": "15W",
            "gpu_clock": gpu,
            "cpu_clocks": [],
            "memory_mhz": 2133.0,
            "celsius": {"tj": 50.0},
            "throttle_counts": {},
            "slowed_by": [],
            "load_average": 0.1,
        }
        energy = {
            "millijoules_per_image": figure(*(12 * value for value in rounds)),
            "uncertainty_millijoules_per_image": 1.2,
            "above_idle": {**figure(*(8 * value for value in rounds)), "uncertainty": 0.9, "idle_watts": 4.5},
            "watts": 12.0,
            "images_per_second_per_watt": 20.8,
            "meter": "INA3221 over sysfs",
            "covers": "module",
            "total": "VDD_IN",
            "rails": [{"name": "VDD_IN", "in_total": True, "millijoules_per_image": 48.0}],
            "seconds": 6.0,
            "readings": 300,
            "readings_per_second": 50.0,
            "lost_readings": 0,
            "standard_uncertainties_millijoules_per_image": {"sampling": 0.1, "quantisation": 0.2, "accuracy": 0.5},
            "accuracy_source": "a data sheet",
            "notes": ["a note of the meter"],
        }
        scopes = ("preprocess", "copy_in", "compute", "copy_out", "run", "postprocess", "end_to_end")
        configuration = {
            "batch": 1,
            "streams": 1,
            "threads": None,
            "warm_up": {"runs": 300, "seconds": 1.2, "settled": True, "medians": [4.0], "rule": "a rule"},
            "rounds": 3,
            "milliseconds": {name: scope(*rounds) for name in scopes},
            "images_per_second": figure(*rates),
            "end_to_end_images_per_second": figure(*rates),
            "energy": {"run": energy, "end_to_end": copy.deepcopy(energy)},
        }
        result = {
            "format": 1,
            "tool": "googlenet-deploy 0.1.0",
            "created": "2026-01-02T03:04:05+00:00",
            "model": {
                "path": "model.engine",
                "sha256": "a" * 64,
                "bytes": 1000,
                "architecture": "bvlc",
                "source_sha256": "b" * 64,
                "precision": "int8",
                "input": {"name": "input", "shape": [None, 3, 224, 224], "dtype": "float32"},
                "outputs": [{"name": "logits", "shape": [None, 1000], "dtype": "float32"}],
            },
            "backend": {
                "name": "TensorRT 10.3.0 (Orin, cuda-bindings)",
                "device": "GPU",
                "options": {"cuda_graph": False},
                "notes": ["a note"],
            },
            "machine": {
                "model": "NVIDIA Jetson Orin Nano Developer Kit",
                "processor": "ARMv8",
                "cores": 6,
                "memory_bytes": 8_000_000_000,
                "gpu": "",
                "driver": "",
                "jetpack": "6.1",
                "l4t": "36.4.3",
                "system": "Linux 5.15 aarch64",
                "python": "3.10.12",
            },
            "options": {
                "batches": [],
                "streams": [1],
                "rounds": 3,
                "seconds": 2.0,
                "min_runs": 10,
                "warm_up_seconds": 20.0,
                "idle_seconds": 3.0,
                "image_count": 32,
                "seed": 0,
                "threads": None,
                "power": "auto",
                "power_rails": [],
                "trtexec": True,
                "image_backend": "pillow",
            },
            "preprocessing": {},
            "images": {
                "kind": "real",
                "count": 32,
                "seed": None,
                "bytes": 1,
                "sha256": "c" * 64,
                "skipped": [{"name": "x.jpg", "reason": "is empty"}],
            },
            "idle": {"watts": 4.5, "uncertainty_watts": 0.1, "seconds": 3.0, "readings": 150, "notes": []},
            "configurations": [configuration],
            "memory": {
                "process": {
                    "resident_before_model": 60_000_000,
                    "resident_with_model": 300_000_000,
                    "resident_after": 310_000_000,
                    "peak": 320_000_000,
                },
                "device": {
                    "all_processes_before_model": 2_000_000_000,
                    "all_processes_with_model": 2_300_000_000,
                    "all_processes_after": 2_310_000_000,
                    "this_process_after": None,
                    "execution_context": 3_000_000,
                },
            },
            "state": {
                "before": state,
                "under_load": {
                    "observations": 20,
                    "gpu_mhz": {"lowest": 918.0, "median": 1020.0, "highest": 1020.0},
                    "cpu_mhz": {"lowest": 1500.0, "median": 1510.0, "highest": 1728.0},
                    "hottest_celsius": {"tj": 61.5},
                },
                "after": {**state, "celsius": {"tj": 58.0}},
                "throttling": [],
            },
            "trtexec": {
                "command": ["trtexec"],
                "queries_per_second": 260.0,
                "compute": {"p50": 3.9, "mean": 3.95},
            },
            "notes": ["a note of the benchmark"],
        }
        return {**result, **changes}

    return make


@pytest.fixture
def schema(repository: Path) -> Path:
    """The JSON Schema of results."""
    return repository / "docs" / "benchmark.schema.json"
