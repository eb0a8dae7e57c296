"""Results of the device: what their figures are called, and damage in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from googlenet_deploy.deployment.benchmark_results import read_device_results
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
