"""Fits the constants of `googlenet_deploy.analysis.prediction` to its table of measurements; see prediction.py."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from reference_networks import NETWORKS
from scipy.optimize import least_squares

from googlenet_deploy.analysis import prediction
from googlenet_deploy.analysis.layer_work import ModelWork
from googlenet_deploy.analysis.prediction.constants import GENERATIONS
from googlenet_deploy.analysis.prediction.energy import operations_by_kind
from googlenet_deploy.analysis.prediction.kernels import Kernel, kernels_of
from googlenet_deploy.analysis.prediction.latency import (
    KINDS,
    KernelArrays,
    LatencyConstants,
    kernel_arrays,
    kernel_seconds,
)
from googlenet_deploy.device.targets.target import Module, PowerMode, load_target

FOLDER = Path(prediction.__file__).parent
MEASUREMENTS = FOLDER / "measurements.csv"
# An older TensorRT than any that the toolkit builds for, timed including copies: one factor for that source is fitted
# along with the constants and applied to its predictions.
OLD_SOFTWARE = "JetPack 3.2"

# Not a target: the GPU of our own record. 132 SMs, 1980 MHz, 16896 CUDA cores:
# hmc-tech.com/gpu/nvidia-h100-vs-nvidia-h200-sxm-vs-nvidia-gb200; 4.8 TB/s: aiwiki.ai/wiki/nvidia_h200; dense FP16 and
# INT8 per clock and SM are those of its 3.96 sparse INT8 POPS at 1.83 GHz.
H200_BUS_BITS = 6144
H200 = Module(
    compute_capability=(9, 0), types=("fp32", "fp16", "int8"), dla_cores=0, memory_bytes=None, sms=132,
    operations={"fp32": 256, "fp16": 4096, "int8": 8192}, bus_bits=H200_BUS_BITS,
    power_modes=(PowerMode("H200", None, 1980.0, 4.8e12 * 8 / 2 / H200_BUS_BITS / 1e6, None),),
    jetpacks=(), sources=(), missing=(),
)  # fmt: skip

# log: efficiencies of FP32, FP16 and INT8, of memory, launch cycles, results at half rate, the old software's factor.
START = np.array([*np.log([0.5, 0.45, 0.35, 0.6, 6000.0, 2000.0]), 0.0])
FREEDOM = np.array([0.4, 0.4, 0.4, 0.3, 0.7, 1.0, 1.0])
LOWEST = [-4.0, -4.0, -4.0, -3.0, 5.0, 2.0, -1.0]
HIGHEST = [0.3, 0.3, 0.3, 0.0, 12.0, 13.0, 1.0]
SHRINKAGE = 0.3  # weight of the distance to the mean of all generations, in units of FREEDOM
LOSS_SCALE = 0.3  # errors beyond this share count linearly, so that one odd source does not decide


@dataclass(frozen=True)
class Point:
    """One measurement with its kernels."""

    row: dict[str, str]
    module: Module
    mode: PowerMode
    arrays: KernelArrays
    operations: dict[str, float]

    @property
    def name(self) -> str:
        """The module."""
        return self.row["module"]

    @property
    def generation(self) -> str:
        """The generation of its GPU."""
        return GENERATIONS[self.module.compute_capability]

    @property
    def family(self) -> str:
        """The network, regardless of the framework's variant and image size."""
        for part in ("-256", "-slim", "-caffe", "-bvlc"):
            if self.row["network"].endswith(part):
                return self.row["network"].removesuffix(part)
        return self.row["network"].replace("inception-v1", "googlenet")

    @property
    def group(self) -> tuple[str, ...]:
        """Points of one network, module and type count together as one."""
        return (self.name, self.row["network"], self.row["precision"], self.row["source"])

    @property
    def seconds(self) -> float:
        """Measured seconds."""
        return float(self.row["milliseconds"]) / 1e3

    @property
    def joules(self) -> float | None:
        """Measured joules per batch; None without power measurements."""
        return float(self.row["load_watts"]) * self.seconds if self.row["load_watts"] else None

    @property
    def old(self) -> bool:
        """Whether the old software's factor applies."""
        return self.row["software"] == OLD_SOFTWARE


@cache
def kernels_for_one(network: str, precision: str) -> tuple[Kernel, ...]:
    """A network's kernels for one image."""
    return tuple(kernels_of(ModelWork(_network(network), KINDS, 1, precision)))


@cache
def _network(name: str) -> object:
    return NETWORKS[name]()


def of_batch(kernels: Sequence[Kernel], batch: int) -> list[Kernel]:
    """Scales the kernels of one image to a batch: everything except the weights grows with it."""
    return [
        replace(
            kernel, multiply_adds=batch * kernel.multiply_adds, rows=batch * kernel.rows,
            activation_bytes=batch * kernel.activation_bytes,
        )
        for kernel in kernels
    ]  # fmt: skip


def read_points() -> list[Point]:
    """All measurements."""
    with MEASUREMENTS.open(encoding="utf-8", newline="") as file:
        return [_point(row) for row in csv.DictReader(file)]


def _point(row: dict[str, str]) -> Point:
    module = H200 if row["module"] == "h200" else load_target(row["module"]).module
    assert module is not None
    if row["module"] == "h200":
        mode = module.power_modes[0]
    elif row["power_mode"]:
        mode = next(each for each in module.power_modes if each.name == row["power_mode"])
    else:
        mode = PowerMode("clocks", None, float(row["gpu_mhz"]), float(row["memory_mhz"]), None)
    kernels = of_batch(kernels_for_one(row["network"], row["precision"]), int(row["batch"]))
    return Point(row, module, mode, kernel_arrays(kernels, module, mode), operations_by_kind(kernels))


def constants_of(fitted: np.ndarray) -> LatencyConstants:
    """The constants in a fit's result."""
    fp32, fp16, int8, memory, launch, grid = (float(value) for value in np.exp(fitted[:6]))
    return LatencyConstants((fp32, fp16, int8), memory, launch, grid)


class Latencies:
    """The predictions for many points at once."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.arrays = KernelArrays.join([point.arrays for point in points])
        sizes = [len(point.arrays.kind) for point in points]
        self.starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self.old = np.array([point.old for point in points], dtype=float)

    def seconds(self, fitted: np.ndarray) -> np.ndarray:
        """Predicted seconds, the old software's factor included."""
        each = kernel_seconds(self.arrays, constants_of(fitted))
        return np.asarray(np.add.reduceat(each, self.starts) * np.exp(self.old * fitted[6]))


def fit_generation(points: Sequence[Point], centre: np.ndarray) -> np.ndarray:
    """The constants of one generation, pulled towards `centre` if its measurements determine them poorly."""
    latencies = Latencies(points)
    measured = np.array([point.seconds for point in points])
    counts = Counter(point.group for point in points)
    weights = np.array([counts[point.group] ** -0.5 for point in points])

    def residuals(fitted: np.ndarray) -> np.ndarray:
        errors = np.log(latencies.seconds(fitted) / measured) * weights
        return np.concatenate([errors, SHRINKAGE * (fitted - centre) / FREEDOM])

    found = least_squares(residuals, centre, loss="soft_l1", f_scale=LOSS_SCALE, bounds=(LOWEST, HIGHEST))
    return np.asarray(found.x)


def fit_latency(points: Sequence[Point]) -> dict[str, np.ndarray]:
    """The constants of every generation in the points, and "pooled"; the others are pulled towards the pooled ones."""
    centre = START
    for _ in range(2):
        fits = {
            generation: fit_generation([point for point in points if point.generation == generation], centre)
            for generation in sorted({point.generation for point in points})
        }
        centre = np.mean(list(fits.values()), axis=0)
        centre[6] = 0.0
    return {**fits, "pooled": centre}


@dataclass(frozen=True)
class EnergyFit:
    """Energy per operation and idle watts."""

    picojoules: dict[str, tuple[float, float, float]]
    measured: frozenset[str]
    idle: dict[str, float]
    idle_share: float


def _mean(values: Sequence[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def fit_energy(points: Sequence[Point]) -> EnergyFit:
    """Per generation the mean of energy above idle per operation at 1 GHz; types without a measurement by a ratio.

    The ratio is that of FP32 to FP16 where both were measured; the ratio of FP16 to INT8 is assumed to be the same.
    """
    found: dict[str, dict[str, float]] = {}
    with_watts = [point for point in points if point.joules is not None]
    for generation in sorted({point.generation for point in with_watts}):
        for kind in KINDS:
            costs = [
                _cost(point) for point in with_watts if (point.generation, point.row["precision"]) == (generation, kind)
            ]
            if costs:
                found.setdefault(generation, {})[kind] = _mean(costs)
    ratios = [costs["fp32"] / costs["fp16"] for costs in found.values() if {"fp32", "fp16"} <= set(costs)]
    ratio = _mean(ratios) if ratios else 2.0
    full = {generation: _completed(costs, ratio) for generation, costs in found.items()}
    pooled = tuple(_mean([costs[index] for costs in full.values()]) for index in range(3))
    return EnergyFit({**full, "pooled": (pooled[0], pooled[1], pooled[2])}, frozenset(full), *_idle(with_watts))


def _cost(point: Point) -> float:
    """Picojoules per operation at 1 GHz."""
    assert point.joules is not None
    above = point.joules - float(point.row["idle_watts"]) * point.seconds
    return 1e12 * above / sum(point.operations.values()) / (point.mode.gpu_mhz / 1e3) ** 2


def _completed(costs: dict[str, float], ratio: float) -> tuple[float, float, float]:
    steps = {kind: position for position, kind in enumerate(KINDS)}
    half = _mean([cost * ratio ** (steps[kind] - 1) for kind, cost in costs.items()])
    return tuple(costs.get(kind, half * ratio ** (1 - steps[kind])) for kind in KINDS)  # type: ignore[return-value]


def _idle(points: Sequence[Point]) -> tuple[dict[str, float], float]:
    """Idle watts by module and mode, and their share of the watts of the smallest mode."""
    idle: dict[str, float] = {}
    for point in points:
        key = f"{point.name} {point.mode.name}" if point.row["power_mode"] else point.name
        idle[key] = float(point.row["idle_watts"])
    lowest: dict[str, float] = {}
    for key, watts in idle.items():
        name = key.split()[0]
        lowest[name] = min(watts, lowest.get(name, watts))
    shares = []
    for name, watts in lowest.items():
        module = load_target(name).module
        assert module is not None
        shares.append(watts / min(mode.watts for mode in module.power_modes if mode.watts))
    return {**idle, "pooled": _mean(list(lowest.values()))}, _mean(shares)


def left_out(points: Sequence[Point], key: Callable[[Point], str]) -> list[tuple[list[Point], list[Point]]]:
    """(fitted, held out) for every value of a key."""
    return [
        ([point for point in points if key(point) != value], [point for point in points if key(point) == value])
        for value in sorted({key(point) for point in points})
    ]
