"""What the report takes from benchmarks, calibrations and estimates."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from googlenet_deploy.analysis.roofline import Estimate
from googlenet_deploy.deployment.report_data import bound_quantities
from googlenet_deploy.report.results import BOUND, Quantity
from googlenet_deploy.report.sections.latency import benchmark_latencies


def result(**scopes: Any) -> dict[str, Any]:
    several = {"streams": 2, "milliseconds": {}}
    return {
        "backend": {"name": "ONNX Runtime"},
        "configurations": [several, {"streams": 1, "batch": 1, "milliseconds": scopes}],
    }


def test_scopes_that_were_not_run_are_left_out() -> None:
    assert benchmark_latencies("int8", result(run={"why": "no runs"})) == ()


def mode(name: str, watts: float | None) -> SimpleNamespace:
    joules = None if watts is None else 3e-3 * watts
    return SimpleNamespace(mode=SimpleNamespace(name=name, watts=watts), floor_ms=1.0, roofline_ms=3.0, joules=joules)


def estimate(*modes: SimpleNamespace) -> Estimate:
    return cast(
        "Estimate",
        SimpleNamespace(modes=modes, batch=1, target=SimpleNamespace(title="Module"), memory_bytes=2_000_000),
    )


def test_bounds_are_those_of_the_largest_mode_whose_power_is_stated() -> None:
    found = bound_quantities(estimate(mode("7W", 7.0), mode("15W", 15.0), mode("MAXN", None)))
    assert found["latency"] == Quantity(3.0, "ms", BOUND, "Module, 15W", 1.0, 3.0)
    assert found["latency"].least == 1.0
    assert (found["energy"].low, found["energy"].value) == (15.0, 45.0)
    assert found["memory"].least == 2.0


def test_a_module_without_stated_power_has_no_energy_and_one_without_modes_no_bounds() -> None:
    found = bound_quantities(estimate(mode("MAXN", None)))
    assert set(found) == {"latency", "memory"}
    assert bound_quantities(estimate()) == {}
    assert replace(found["latency"], low=None).least == 3.0
