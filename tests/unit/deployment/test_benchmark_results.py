"""Results of the device: what their figures are called, and damage in them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tuned_example import TUNED

from googlenet_deploy.deployment.benchmark_results import read_device_results
from googlenet_deploy.device.tune.tuned_file import save_tuned
from googlenet_deploy.errors import InputError
from tests.unit.device.benchmark.conftest import make_result

__all__ = ["make_result"]  # a fixture
WEIGHTS = "ab" * 32


def write(path: Path, result: dict[str, Any]) -> Path:
    result["model"].update(source_sha256=WEIGHTS, precision="int8")
    path.write_text(json.dumps(result))
    return path


def test_memory_is_the_peak_resident_memory_of_the_process(tmp_path: Path, make_result: Any) -> None:
    result = make_result()
    result["memory"]["process"]["peak"] = 123_000_000
    memory = read_device_results(write(tmp_path / "b.json", result), WEIGHTS, "int8").quantities["memory"]
    assert (memory.value, memory.unit) == (123.0, "MB")
    assert memory.where.endswith("(peak resident memory of the process)")


@pytest.mark.parametrize("place", ["memory", "latency", "lowest"])
def test_numbers_beyond_any_float_are_damage(tmp_path: Path, make_result: Any, place: str) -> None:
    result = make_result()
    times = result["configurations"][0]["milliseconds"]["run"]
    if place == "memory":
        result["memory"]["process"]["peak"] = 10**400
    elif place == "latency":
        times["p50"]["value"] = 2**1024
    else:
        times["lowest"] = -(10**309)
    with pytest.raises(InputError, match=r"b\.json: is damaged"):
        read_device_results(write(tmp_path / "b.json", result), WEIGHTS, "int8")


def test_what_tune_measured_is_read_for_every_precision(tmp_path: Path) -> None:
    save_tuned(tmp_path / "tuned.json", replace(TUNED, machine={"model": "Orin Nano", "power_mode": "15W"}))
    results = read_device_results(tmp_path / "tuned.json", "b" * 64, "int8")
    latency, energy = results.quantities["latency"], results.quantities["energy"]
    # 2.0 ms (1.9 to 2.1) for a batch of two images; the setting with batch 4 is not that of single images.
    assert (latency.value, latency.low, latency.high) == (1.0, pytest.approx(0.95), pytest.approx(1.05))
    assert (latency.kind, latency.where) == ("measured", "Orin Nano, 15W")
    assert (energy.value, energy.unit) == (14.0, "mJ")
    assert results.others["fp16"]["latency"].value == 3.0
    assert results.tuned is not None
    assert not results.doubts


def test_a_choice_of_another_precision_is_a_doubt(tmp_path: Path) -> None:
    save_tuned(tmp_path / "tuned.json", replace(TUNED, chosen=2, ties=(), reason="INT8 is neither faster nor cheaper"))
    (doubt,) = read_device_results(tmp_path / "tuned.json", "b" * 64, "int8").doubts
    assert doubt.name == "FP16 is better on the device"
    assert "INT8 is neither faster nor cheaper" in doubt.text
    assert "--precision fp16" in doubt.remedy


def test_tuned_results_of_other_weights_or_without_the_precision_are_named(tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    save_tuned(path, TUNED)
    with pytest.raises(InputError, match=r"tuned.json: measured 'model.int8.onnx' of other weights: b{64}, here a{64}"):
        read_device_results(path, "a" * 64, "int8")
    results = read_device_results(path, "b" * 64, "fp32")
    assert results.not_measured == {
        "energy": "tune did not measure FP32",
        "latency": "tune did not measure FP32",
    }
    path.write_text(path.read_text().replace('"objective": "energy"', '"objective": 5'))
    with pytest.raises(InputError, match=r"tuned.json: is damaged: tuned.objective is not str"):
        read_device_results(path, "b" * 64, "int8")
