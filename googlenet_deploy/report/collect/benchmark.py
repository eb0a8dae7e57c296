"""Distributions of times from a benchmark's JSON (docs/benchmark-schema.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from googlenet_deploy.report.results import Latency

SCOPES = ("run", "end_to_end")


def benchmark_latencies(variant: str, result: Mapping[str, Any]) -> tuple[Latency, ...]:
    """The times of the network and of the whole way, from the first configuration with one stream."""
    chosen = next(entry for entry in result["configurations"] if entry["streams"] == 1)
    backend = result["backend"]["name"]
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
                where=f"this machine, {backend}",
                batch=int(chosen["batch"]),
                runs=int(times["runs"]),
                lowest=float(times["lowest"]),
                highest=float(times["highest"]),
                percentiles={name: float(times[name]["value"]) for name in names},
            )
        )
    return tuple(found)
