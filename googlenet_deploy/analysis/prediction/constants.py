"""The fitted constants of the prediction, and the width of its intervals by cross-validation.

``constants.json`` beside this file is written by ``benchmarks/prediction.py`` from ``measurements.csv``; the same
measurements yield the same file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from googlenet_deploy.analysis.prediction.latency import LatencyConstants
from googlenet_deploy.analysis.prediction.memory import MemoryConstants
from googlenet_deploy.device.targets.target import Target

POOLED = "pooled"
# By compute capability; any other GPU uses the pooled constants.
GENERATIONS = {(5, 3): "maxwell", (6, 2): "pascal", (7, 2): "volta", (8, 7): "ampere", (9, 0): "hopper"}
# What cross-validation left out to find the interval, by what has been measured for a module.
KNOWN_MODULE, KNOWN_GENERATION, UNKNOWN = "network", "module", "generation"


@dataclass(frozen=True)
class Spread:
    """How far measurements were from predictions in one cross-validation.

    Attributes:
        low: 5th percentile of measured over predicted.
        high: 95th percentile.
        median_error: Median of the absolute relative error.
        p90_error: Its 90th percentile.
        points: Measurements.
    """

    low: float
    high: float
    median_error: float
    p90_error: float
    points: int


@dataclass(frozen=True)
class EnergyConstants:
    """Energy above idle of a generation.

    Attributes:
        picojoules: Picojoules per operation at 1 GHz by type, in the order of `KINDS`.
        measured: Whether the fit included watts of this generation.
    """

    picojoules: tuple[float, float, float]
    measured: bool


@dataclass(frozen=True)
class PredictionConstants:
    """Everything that is fitted.

    Attributes:
        latency: Latency constants by generation, and `POOLED`.
        energy: Energy constants by generation, and `POOLED`.
        latency_spread: Spread of latency, by what was left out.
        energy_spread: Spread of energy, by what was left out.
        latency_modules: Modules with a measured latency.
        energy_modules: Modules with measured watts.
        idle_watts: Measured idle watts by module, or by module and power mode ("tx2 MAXN"), and `POOLED`.
        idle_share: Ratio of idle watts to those of the module's smallest power mode, from the measured modules.
        memory: Memory of engine, context and libraries.
    """

    latency: Mapping[str, LatencyConstants]
    energy: Mapping[str, EnergyConstants]
    latency_spread: Mapping[str, Spread]
    energy_spread: Mapping[str, Spread]
    latency_modules: tuple[str, ...]
    energy_modules: tuple[str, ...]
    idle_watts: Mapping[str, float]
    idle_share: float
    memory: MemoryConstants


@cache
def load_constants() -> PredictionConstants:
    """Reads ``constants.json``."""
    values = json.loads(files(__package__).joinpath("constants.json").read_text(encoding="utf-8"))
    return decode_constants(values)


def decode_constants(values: Mapping[str, Any]) -> PredictionConstants:
    """The constants in a file's values."""

    def latency(entry: Mapping[str, Any]) -> LatencyConstants:
        first, second, third = entry["arithmetic"]
        return LatencyConstants((first, second, third), entry["memory"], entry["launch_cycles"], entry["half_grid"])

    def energy(entry: Mapping[str, Any]) -> EnergyConstants:
        first, second, third = entry["picojoules"]
        return EnergyConstants((first, second, third), entry["measured"])

    return PredictionConstants(
        latency={name: latency(entry) for name, entry in values["latency"].items()},
        energy={name: energy(entry) for name, entry in values["energy"].items()},
        latency_spread={name: Spread(**entry) for name, entry in values["latency_spread"].items()},
        energy_spread={name: Spread(**entry) for name, entry in values["energy_spread"].items()},
        latency_modules=tuple(values["latency_modules"]),
        energy_modules=tuple(values["energy_modules"]),
        idle_watts=dict(values["idle_watts"]),
        idle_share=values["idle_share"],
        memory=MemoryConstants(**{name: tuple(entry) for name, entry in values["memory"].items()}),
    )


def generation_of(target: Target) -> str:
    """The generation of a module's GPU; `POOLED` if the generation has not been measured."""
    assert target.module is not None
    return GENERATIONS.get(target.module.compute_capability, POOLED)


def evidence(target: Target, modules: tuple[str, ...]) -> str:
    """Which cross-validation applies to a module, by how much of it was measured.

    Args:
        target: The module.
        modules: The measured modules.
    """
    if target.name in modules:
        return KNOWN_MODULE
    generation = generation_of(target)
    measured = {_GENERATION_BY_MODULE.get(name) for name in modules}
    return KNOWN_GENERATION if generation != POOLED and generation in measured else UNKNOWN


_GENERATION_BY_MODULE = {
    "nano": "maxwell", "tx1": "maxwell", "tx2": "pascal", "agx-xavier": "volta", "xavier-nx": "volta",
    "agx-orin": "ampere", "agx-orin-32gb": "ampere", "orin-nx-16gb": "ampere", "orin-nx-8gb": "ampere",
    "orin-nano": "ampere", "orin-nano-4gb": "ampere", "h200": "hopper",
}  # fmt: skip
