"""What the report takes from benchmarks, calibrations and estimates."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from googlenet_deploy.analysis.prediction.memory import PredictedMemory
from googlenet_deploy.analysis.prediction.predict import ModePrediction, PredictedValue
from googlenet_deploy.analysis.roofline import Estimate, ModeBound
from googlenet_deploy.deployment.benchmark_results import benchmark_latencies
from googlenet_deploy.deployment.steps.estimate import quantities_of
from googlenet_deploy.device.targets.target import PowerMode
from googlenet_deploy.report.figures import PREDICTED, Quantity


def result(**scopes: Any) -> dict[str, Any]:
    several = {"streams": 2, "milliseconds": {}}
    return {
        "backend": {"name": "ONNX Runtime"},
        "configurations": [several, {"streams": 1, "batch": 1, "milliseconds": scopes}],
    }


def test_scopes_that_were_not_run_are_left_out() -> None:
    assert benchmark_latencies("int8", result(run={"why": "no runs"}), "this machine") == ()


def mode(name: str, watts: float | None, milliseconds: float = 3.0) -> ModeBound:
    power = PowerMode(name, watts, 1000.0, 2000.0, None)
    latency = PredictedValue(milliseconds, 2.0, 5.0, "network")
    expected = ModePrediction(power, latency, PredictedValue(20.0, 15.0, 30.0, "network"), 6.7, (1.0, 2.0))
    return ModeBound(power, 1.0, 2.0, 0.5, None, ((3.0, "memory"),), expected)


def estimate(*modes: ModeBound, batch: int = 1, gib: int | None = 4) -> Estimate:
    memory = PredictedMemory(15e6, 5e6, 800e6, 255e6, 939e6, gib * 2**30 if gib else None)
    return cast(
        "Estimate",
        SimpleNamespace(
            modes=modes, batch=batch, target=SimpleNamespace(title="Module"), prediction=SimpleNamespace(memory=memory)
        ),
    )


def test_quantities_are_those_of_the_largest_mode_whose_power_is_stated() -> None:
    """Also where the profile lists it first, as the Nano's does, or lists several with as many watts."""
    for modes in (
        (mode("7W", 7.0), mode("15W", 15.0), mode("MAXN", None)),
        (mode("15W", 15.0), mode("7W", 7.0)),
        (mode("15W_SLOW", 15.0, 4.0), mode("15W", 15.0)),
    ):
        found = quantities_of(estimate(*modes))
        assert found["latency"] == Quantity(3.0, "ms", PREDICTED, "Module, 15W", 2.0, 5.0)
        assert found["energy"] == Quantity(20.0, "mJ", PREDICTED, "Module, 15W", 15.0, 30.0)
        assert found["memory"] == Quantity(820.0, "MB", PREDICTED, "Module, which has 4 GiB", 255.0, 939.0)


def test_a_batch_shares_its_time_and_not_its_energy_which_is_per_image_already() -> None:
    found = quantities_of(estimate(mode("15W", 15.0), batch=2, gib=None))
    assert (found["latency"].value, found["latency"].low, found["latency"].high) == (1.5, 1.0, 2.5)
    assert found["energy"].value == 20.0
    assert found["memory"].where == "Module, 15W"


def test_a_module_without_stated_power_is_predicted_too_and_one_without_modes_not() -> None:
    assert set(quantities_of(estimate(mode("MAXN", None)))) == {"latency", "energy", "memory"}
    assert quantities_of(estimate()) == {}
