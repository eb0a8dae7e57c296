"""Results of `benchmark` and `tune`, from this machine or the device, in the report's types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from googlenet_deploy.deployment.tuned_results import (
    load_tuned_of,
    tuned_description,
    tuned_doubts,
    tuned_quantities,
)
from googlenet_deploy.device.benchmark.result_file import read_result
from googlenet_deploy.device.files import PathLike
from googlenet_deploy.device.tune.tuned_file import Tuned, is_tuned_file
from googlenet_deploy.errors import InputError
from googlenet_deploy.report.figures import MEASURED, Latency, Quantity
from googlenet_deploy.report.results import Doubt

SCOPES = ("run", "end_to_end")


@dataclass(frozen=True)
class DeviceResults:
    """Measurements from the device.

    Attributes:
        variant: The precision of the engine that ran.
        quantities: "latency", "energy" and "memory" per image at the smallest batch, as far as measured.
        latencies: Latency distributions.
        device: The machine and its state, by name.
        doubts: Reasons for doubting the measurements, such as throttling.
        not_measured: Why a quantity is missing, by name.
        others: The quantities of the other precisions, by precision.
        tuned: Results of `tune`; None for those of `benchmark`.
    """

    variant: str
    quantities: Mapping[str, Quantity]
    latencies: tuple[Latency, ...]
    device: Mapping[str, str]
    doubts: tuple[Doubt, ...] = ()
    not_measured: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, Mapping[str, Quantity]] = field(default_factory=dict)
    tuned: Tuned | None = None


def read_device_results(path: PathLike, weights_sha256: str, precision: str) -> DeviceResults:
    """Reads device results of ``benchmark --json`` or `tune` (docs/benchmark-schema.md, docs/tuned-schema.md).

    Args:
        path: The file.
        weights_sha256: Hash of the weights of this deployment.
        precision: The deployed precision.

    Raises:
        InputError: The file is not of this kind, is damaged, or is for another model.
    """
    if is_tuned_file(path):
        return _tuned_results(load_tuned_of(path, weights_sha256), precision)
    result = read_result(path)
    try:
        _check_model(path, result["model"], weights_sha256, precision)
        return _device_results(result, precision)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, IndexError) as error:
        raise InputError(path, f"is damaged: {error!r} (see docs/benchmark-schema.md)") from error


def _tuned_results(tuned: Tuned, precision: str) -> DeviceResults:
    quantities = tuned_quantities(tuned)
    own = quantities.pop(precision, {})
    lacking = {} if "energy" in own else {"energy": tuned.no_energy or f"tune did not measure {precision.upper()}"}
    lacking.update({} if "latency" in own else {"latency": f"tune did not measure {precision.upper()}"})
    return DeviceResults(
        variant=precision,
        quantities=own,
        latencies=(),
        device=tuned_description(tuned),
        doubts=tuned_doubts(tuned, precision),
        not_measured=lacking,
        others=quantities,
        tuned=tuned,
    )


def _check_model(path: PathLike, model: Mapping[str, Any], weights_sha256: str, precision: str) -> None:
    """Rejects measurements of another model, which would look plausible."""
    if model["source_sha256"] != weights_sha256:
        raise InputError(
            path,
            f"measured a model of other weights: {model['source_sha256'] or 'unknown'}, here {weights_sha256}",
            "run `benchmark --json` with the engine that this deployment's bundle builds",
        )
    ran = model["precision"]
    if ran is not None and ran != precision:
        raise InputError(path, f"measured {ran.upper()}, but {precision.upper()} is deployed")


def _device_results(result: Mapping[str, Any], precision: str) -> DeviceResults:
    machine, state = result["machine"], result["state"]
    mode = state["before"]["power_mode"]
    where = ", ".join(filter(None, (machine["model"] or machine["gpu"] or machine["processor"], mode)))
    chosen = _first_with_one_stream(result)
    quantities: dict[str, Quantity] = {}
    lacking: dict[str, str] = {}
    for name, unit, figure, scale in (
        ("latency", "ms", chosen["milliseconds"]["run"]["p50"], 1 / chosen["batch"]),
        ("energy", "mJ", chosen["energy"]["run"].get("millijoules_per_image", chosen["energy"]["run"]), 1.0),
    ):
        if figure.get("value") is None:
            lacking[name] = str(figure["not_measured"])
            continue
        low, high = figure["interval_95"] or (None, None)
        scaled = [None if each is None else float(each) * scale for each in (figure["value"], low, high)]
        assert scaled[0] is not None
        quantities[name] = Quantity(scaled[0], unit, MEASURED, where, scaled[1], scaled[2])
    peak = result["memory"]["process"]["peak"]
    if peak:
        quantities["memory"] = Quantity(peak / 1e6, "MB", MEASURED, f"{where} (peak resident memory of the process)")
    return DeviceResults(
        variant=precision,
        quantities=quantities,
        latencies=benchmark_latencies(precision, result, where),
        device=_description(result, where),
        doubts=tuple(
            Doubt("throttling on the device", f"on the device: {text}", "cool or lock the clocks, then measure again")
            for text in state["throttling"]
        ),
        not_measured=lacking,
    )


def _description(result: Mapping[str, Any], where: str) -> dict[str, str]:
    machine, backend = result["machine"], result["backend"]
    values = {
        "measured on": where,
        "by": f"{backend['name']} on {backend['device']}, {result['tool']}, {result['created']}",
        "JetPack": " ".join(filter(None, (machine["jetpack"], machine["l4t"] and f"(L4T {machine['l4t']})"))),
        "GPU": ", ".join(filter(None, (machine["gpu"], machine["driver"] and f"driver {machine['driver']}"))),
        "notes": "; ".join(result.get("notes", [])),
    }
    return {name: text for name, text in values.items() if text}


def _first_with_one_stream(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration with the smallest batch and one stream, whose latency is that of a single image."""
    alone = [entry for entry in result["configurations"] if entry["streams"] == 1]
    if not alone:
        raise ValueError("no configuration has one stream")
    found: Mapping[str, Any] = min(alone, key=lambda entry: int(entry["batch"]))
    return found


def benchmark_latencies(variant: str, result: Mapping[str, Any], where: str) -> tuple[Latency, ...]:
    """The times of the network and end to end, from the smallest batch with one stream.

    Args:
        variant: The precision that ran.
        result: The output of ``benchmark --json``.
        where: The machine.
    """
    chosen = _first_with_one_stream(result)
    found = []
    for scope in SCOPES:
        times = chosen["milliseconds"].get(scope, {})
        if "runs" not in times:
            continue
        names = [name for name in times if name.startswith("p") and times[name]["value"] is not None]
        found.append(
            Latency(
                variant=variant,
                scope=scope,
                where=f"{where}, {result['backend']['name']}",
                batch=int(chosen["batch"]),
                runs=int(times["runs"]),
                lowest=float(times["lowest"]),
                highest=float(times["highest"]),
                percentiles={name: float(times[name]["value"]) for name in names},
            )
        )
    return tuple(found)
