"""What the report takes from benchmarks, calibrations and estimates."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from googlenet_deploy.analysis.roofline import Estimate, ModeBound
from googlenet_deploy.deployment.benchmark_results import benchmark_latencies
from googlenet_deploy.deployment.steps.estimate import quantities_of
from googlenet_deploy.device.targets.target import PowerMode
from googlenet_deploy.report.figures import ASSUMED, LOWER_BOUND, ROOFLINE, Quantity


def result(**scopes: Any) -> dict[str, Any]:
    several = {"streams": 2, "milliseconds": {}}
    return {
        "backend": {"name": "ONNX Runtime"},
        "configurations": [several, {"streams": 1, "batch": 1, "milliseconds": scopes}],
    }


def test_scopes_that_were_not_run_are_left_out() -> None:
    assert benchmark_latencies("int8", result(run={"why": "no runs"}), "this machine") == ()


def mode(name: str, watts: float | None) -> ModeBound:
    joules = None if watts is None else 3e-3 * watts
    return ModeBound(PowerMode(name, watts, 1000.0, 2000.0, None), 1.0, 3.0, 0.5, joules, ((3.0, "memory"),))


def estimate(*modes: ModeBound) -> Estimate:
    return cast(
        "Estimate",
        SimpleNamespace(modes=modes, batch=1, target=SimpleNamespace(title="Module"), memory_bytes=2_000_000),
    )


def test_quantities_are_those_of_the_largest_mode_whose_power_is_stated() -> None:
    found = quantities_of(estimate(mode("7W", 7.0), mode("15W", 15.0), mode("MAXN", None)))
    assert found["latency"] == Quantity(3.0, "ms", ROOFLINE, "Module, 15W", 1.0, 3.0)
    assert found["energy"] == Quantity(45.0, "mJ", ASSUMED, "Module, 15W")  # no bound, so it has no ends
    assert found["memory"] == Quantity(2.0, "MB", LOWER_BOUND, "Module, 15W")


def test_a_module_without_stated_power_has_no_energy_and_one_without_modes_no_bounds() -> None:
    found = quantities_of(estimate(mode("MAXN", None)))
    assert set(found) == {"latency", "memory"}
    assert quantities_of(estimate()) == {}
