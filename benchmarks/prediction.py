"""Fits and cross-validates the prediction of `estimate`: how far are its milliseconds and joules from measured ones?

The measurements are those of googlenet_deploy/analysis/prediction/measurements.csv, each with its source. Whole
networks, whole modules and whole GPU generations are left out of the fit in turn and predicted; what is printed for
each point is the prediction of a fit that has not seen it. The intervals of `estimate` are the 5th and 95th percentile
of measured over predicted, every network on a module in one type counting once, however many batches it has.

    python benchmarks/prediction.py [--write] [--record]

``--write`` writes the constants that the package uses.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import RESULTS, options, record, say, table
from prediction_fit import (
    FOLDER,
    EnergyFit,
    Latencies,
    Point,
    constants_of,
    fit_energy,
    fit_latency,
    left_out,
    read_points,
)

from googlenet_deploy.analysis.layer_work import ModelWork
from googlenet_deploy.analysis.prediction.latency import KINDS
from googlenet_deploy.device.files import write_json

# What is left out, by the name of the resulting interval.
LEFT_OUT: dict[str, Callable[[Point], str]] = {
    "network": lambda point: point.family,
    "module": lambda point: point.name,
    "generation": lambda point: point.generation,
}
SEEN = "seen"
LEAST_NETWORKS = 2  # with power or times, for a module to count as measured
MIB = 2**20
# "Init CUDA", then cuBLAS and cuDNN, in logs of TensorRT 8.2 on JetPack 4.6. With TensorRT 10 nothing of this kind was
# found for a Jetson; CUDA's initialisation alone is the lower end.
LIBRARIES = {
    "https://github.com/NVIDIA/TensorRT/issues/2217": (229 + 182 + 6 + 241) * MIB,
    "https://github.com/wang-xinyu/tensorrtx/issues/1160": (225 + 241 + 406) * MIB,
}
CUDA_ALONE = 225 * MIB


def predicted(held: Sequence[Point], fits: dict[str, np.ndarray], *, pooled: bool) -> list[float]:
    """Seconds that a fit predicts for points; with the pooled constants if their generation is not in the fit."""
    found = np.zeros(len(held))
    for generation in {point.generation for point in held}:
        where = [index for index, point in enumerate(held) if point.generation == generation]
        constants = fits["pooled"] if pooled or generation not in fits else fits[generation]
        found[where] = Latencies([held[index] for index in where]).seconds(constants)
    return [float(value) for value in found]


def energy_of(point: Point, seconds: float, fit: EnergyFit) -> float:
    """Joules per batch as predicted by the package."""
    keys = (f"{point.name} {point.mode.name}", point.name)
    idle = next((fit.idle[key] for key in keys if key in fit.idle), None)
    if idle is None:
        stated = [mode.watts for mode in point.module.power_modes if mode.watts]
        idle = fit.idle_share * min(stated) if stated else fit.idle["pooled"]
    costs = fit.picojoules.get(point.generation, fit.picojoules["pooled"])
    above = sum(point.operations[kind] * cost for kind, cost in zip(KINDS, costs, strict=True))
    return idle * seconds + 1e-12 * above * (point.mode.gpu_mhz / 1e3) ** 2


def cross_validate(points: Sequence[Point]) -> tuple[dict[str, dict[int, float]], dict[str, dict[int, float]]]:
    """Predicted seconds and joules of every point, by what was left out."""
    position = {id(point): index for index, point in enumerate(points)}
    seconds: dict[str, dict[int, float]] = defaultdict(dict)
    joules: dict[str, dict[int, float]] = defaultdict(dict)
    rounds = {SEEN: [(list(points), list(points))]}
    rounds.update({name: left_out(points, key) for name, key in LEFT_OUT.items()})
    for name, splits in rounds.items():
        for fitted, held in splits:
            fits, energy = fit_latency(fitted), fit_energy(fitted)
            for point, value in zip(held, predicted(held, fits, pooled=False), strict=True):
                index = position[id(point)]
                if name != "module" or _has_peers(point, fitted):
                    seconds[name][index] = value
                if point.joules is not None and _testable(point, fitted, name):
                    joules[name][index] = energy_of(point, value, energy)
    return seconds, joules


def _has_peers(point: Point, fitted: Sequence[Point]) -> bool:
    """Whether another module of its generation is in the fit."""
    return any(other.generation == point.generation for other in fitted)


def _testable(point: Point, fitted: Sequence[Point], name: str) -> bool:
    """Whether the claimed peers remain in the fit: the module's other networks, or the generation's other modules."""
    with_watts = [other for other in fitted if other.joules is not None]
    if name == "network":
        return any(other.name == point.name for other in with_watts)
    if name == "module":
        return _has_peers(point, with_watts)
    return bool(with_watts)


def spread(measured: Sequence[float], values: Sequence[float], groups: Sequence[Any]) -> dict[str, float]:
    """Percentiles of the errors, with each group weighted equally."""
    counts = Counter(groups)
    weights = np.array([1 / counts[group] for group in groups])
    ratio = np.array(measured) / np.array(values)
    errors = np.abs(1 / ratio - 1)
    return {
        "low": weighted_quantile(ratio, weights, 0.05), "high": weighted_quantile(ratio, weights, 0.95),
        "median_error": weighted_quantile(errors, weights, 0.5), "p90_error": weighted_quantile(errors, weights, 0.9),
        "points": len(measured),
    }  # fmt: skip


def weighted_quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """The smallest value such that at least a given share of the weight is at or below it."""
    order = np.argsort(values)
    cumulated = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][min(len(values) - 1, int(np.searchsorted(cumulated, share)))])


def measured_modules(points: Sequence[Point], *, energy: bool) -> list[str]:
    """Modules with at least `LEAST_NETWORKS` measured networks."""
    networks: dict[str, set[str]] = defaultdict(set)
    for point in points:
        if not energy or point.joules is not None:
            networks[point.name].add(point.family)
    return sorted(name for name, found in networks.items() if len(found) >= LEAST_NETWORKS)


def memory_constants() -> dict[str, list[float]]:
    """Memory of engine, context and libraries, from our record and published logs: (lowest, typical, highest)."""
    from reference_networks import googlenet

    results = json.loads((RESULTS / "gpu_engines.json").read_text(encoding="utf-8"))["engines"]
    extra, factors = [], []
    for engine in results:
        precision = {"FP32": "fp32", "FP16 by flag": "fp16", "INT8 from Q/DQ": "int8"}[engine["kind"]]
        batch = max(entry["batch"] for entry in engine["benchmark"]["configurations"])
        work = ModelWork(googlenet(), KINDS, batch, precision)
        extra.append(1e6 * engine["megabytes"] - work.weight_bytes)
        factors.append(1e6 * engine["device_memory_megabytes"] / max(size for _, size in work.schedule()))
    libraries = list(LIBRARIES.values())
    return {
        "engine_bytes": _three(extra), "context_factor": _three(factors),
        "library_bytes": [float(CUDA_ALONE), rounded(float(np.mean(libraries))), float(max(libraries))],
    }  # fmt: skip


def _three(values: Sequence[float]) -> list[float]:
    return [rounded(min(values)), rounded(float(np.median(values))), rounded(max(values))]


def rounded(value: float) -> float:
    """Six significant digits, to which a fit is repeatable on another machine."""
    return float(f"{value:.6g}")


def constants_file(
    points: Sequence[Point], spreads: dict[str, dict[str, dict[str, float]]], memory: dict[str, list[float]]
) -> dict[str, Any]:
    """The content of ``constants.json``."""
    fits, energy = fit_latency(points), fit_energy(points)
    latency = {}
    for name, fitted in sorted(fits.items()):
        found = constants_of(fitted)
        latency[name] = {
            "arithmetic": [rounded(value) for value in found.arithmetic], "memory": rounded(found.memory),
            "launch_cycles": rounded(found.launch_cycles), "half_grid": rounded(found.half_grid),
        }  # fmt: skip
    pooled = energy.picojoules["pooled"]
    return {
        "format": 1,
        "made_by": "benchmarks/prediction.py from measurements.csv",
        "latency": latency,
        "energy": {
            name: {
                "picojoules": [rounded(value) for value in energy.picojoules.get(name, pooled)],
                "measured": name in energy.measured,
            }
            for name in latency
        },
        **{
            f"{what}_spread": {
                name: {key: rounded(value) if key != "points" else int(value) for key, value in entry.items()}
                for name, entry in each.items()
                if name != SEEN
            }
            for what, each in spreads.items()
        },
        "latency_modules": measured_modules(points, energy=False),
        "energy_modules": measured_modules(points, energy=True),
        "idle_watts": {name: rounded(value) for name, value in sorted(energy.idle.items())},
        "idle_share": rounded(energy.idle_share),
        "memory": memory,
    }


def show_spreads(what: str, spreads: dict[str, dict[str, float]]) -> None:
    """The table of errors."""
    say("")
    say(f"{what}: relative error of the prediction, by what the fit had not seen (networks count once)")
    rows = [
        (
            name, str(int(each["points"])), f"{each['median_error']:.0%}", f"{each['p90_error']:.0%}",
            f"{each['low']:.2f} to {each['high']:.2f}",
        )
        for name, each in spreads.items()
    ]  # fmt: skip
    table(("left out", "points", "median", "90th percentile", "measured / predicted, 5 to 95 %"), rows)


def show_modules(points: Sequence[Point], seconds: dict[str, dict[int, float]]) -> None:
    """The errors of each module and type, with networks left out."""
    say("")
    say("latency by module and type: median error and bias (predicted / measured) with the network left out")
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for index, point in enumerate(points):
        groups[point.name, point.row["precision"]].append(seconds["network"][index] / point.seconds)
    rows = [
        (
            f"{name} {kind}",
            str(len(ratios)),
            f"{np.median(np.abs(np.array(ratios) - 1)):.0%}",
            f"{np.median(ratios):.2f}",
        )
        for (name, kind), ratios in sorted(groups.items())
    ]
    table(("module", "points", "median error", "bias"), rows)


def show_curve(
    points: Sequence[Point], seconds: dict[str, dict[int, float]], joules: dict[str, dict[int, float]]
) -> None:
    """TX2's GoogLeNet, batch 1 to 128 in three modes: measured, and predicted by a fit without any GoogLeNet."""
    say("")
    say("TX2, BVLC GoogLeNet: ms per batch and mJ per image, measured and predicted by a fit without GoogLeNet")
    rows = []
    for index, point in enumerate(points):
        if point.name != "tx2" or point.row["network"] != "googlenet-bvlc" or point.joules is None:
            continue
        batch = int(point.row["batch"])
        value, energy = seconds["network"][index], joules["network"][index]
        rows.append(
            (
                f"{point.mode.name} {point.row['precision']} batch {batch}", f"{1e3 * point.seconds:.2f}",
                f"{1e3 * value:.2f}", f"{value / point.seconds:.2f}", f"{1e3 * point.joules / batch:.1f}",
                f"{1e3 * energy / batch:.1f}", f"{energy / point.joules:.2f}",
            )
        )  # fmt: skip
    table(("", "ms", "predicted", "ratio", "mJ/image", "predicted", "ratio"), rows)


def show_points(points: Sequence[Point], seconds: dict[str, dict[int, float]]) -> None:
    """Every point with the ratio of predicted to measured, by what was left out."""
    say("")
    say("every point: measured milliseconds per batch, and predicted / measured by what was left out")
    rows = [
        (
            " ".join((point.name, point.mode.name, point.row["network"], point.row["precision"])),
            point.row["batch"], f"{1e3 * point.seconds:.3f}",
            *(_ratio(seconds[name].get(index), point) for name in (SEEN, *LEFT_OUT)),
        )
        for index, point in enumerate(points)
    ]  # fmt: skip
    table(("module, mode, network, type", "batch", "ms", SEEN, *LEFT_OUT), rows)


def _ratio(seconds: float | None, point: Point) -> str:
    """Predicted over measured; "-" for the only module of its generation."""
    return "-" if seconds is None else f"{seconds / point.seconds:.2f}"


def all_spreads(
    points: Sequence[Point], seconds: dict[str, dict[int, float]], joules: dict[str, dict[int, float]]
) -> dict[str, dict[str, dict[str, float]]]:
    """The errors of latency and energy by what was left out."""
    spreads: dict[str, dict[str, dict[str, float]]] = {"latency": {}, "energy": {}}
    for name in (SEEN, *LEFT_OUT):
        for what, found in (("latency", seconds[name]), ("energy", joules[name])):
            chosen = sorted(found)
            measured = [points[i].seconds if what == "latency" else points[i].joules or 0.0 for i in chosen]
            groups = [points[i].group for i in chosen]
            spreads[what][name] = spread(measured, [found[i] for i in chosen], groups)
    return spreads


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--write", action="store_true", help="write the package's constants")
    arguments = parser.parse_args()
    points = read_points()
    say(f"{len(points)} measurements of {len({point.row['network'] for point in points})} networks on "
        f"{len({point.name for point in points})} GPUs")  # fmt: skip
    seconds, joules = cross_validate(points)
    spreads = all_spreads(points, seconds, joules)
    for what, each in spreads.items():
        show_spreads(what, each)
    show_modules(points, seconds)
    show_curve(points, seconds, joules)
    show_points(points, seconds)
    constants = constants_file(points, spreads, memory_constants())
    if arguments.write:
        write_json(Path(FOLDER) / "constants.json", constants)
    if arguments.record:
        figures = [
            {
                **point.row,
                "predicted_ms": {name: 1e3 * found[index] for name, found in seconds.items() if index in found},
                "predicted_joules": {name: found[index] for name, found in joules.items() if index in found},
            }
            for index, point in enumerate(points)
        ]
        record("prediction", {"errors": spreads, "constants": constants, "points": figures})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
