"""Compares two results: ratios with intervals, and warnings about differences between the runs.

A ratio B/A is that of the geometric means over the rounds. Its 95 % interval is Welch's for the difference of the means
of the logarithms: ``exp(d +- t * sqrt(s_a^2 / n_a + s_b^2 / n_b))``, with Student's t at the Welch-Satterthwaite
degrees of freedom. If a round does not support the figure, the ratio has no interval.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from googlenet_deploy.device.benchmark.loops import RUN, SCOPES
from googlenet_deploy.device.benchmark.statistics import Interval, exp, student_t
from googlenet_deploy.device.text import columns, number
from googlenet_deploy.errors import InputError, UsageError

STATISTICS = ("p50", "p99", "mean")
# Clocks that differ by more than this are reported as a warning.
CLOCK_DIFFERENCE = 0.03


class ComparedFigure(NamedTuple):
    """One figure of both results.

    Attributes:
        configuration: Human-readable configuration: "batch 1, 1 stream".
        figure: Name of the figure.
        unit: Unit of `first` and `second`.
        first: A's geometric mean over the rounds; if a round does not support the figure, its value over all runs.
        second: The same for B.
        ratio: B/A.
        interval: 95 % interval of the ratio; None if the rounds do not support one.
        more_is_better: Whether a larger value is better.
    """

    configuration: str
    figure: str
    unit: str
    first: float
    second: float
    ratio: float
    interval: Optional[Interval]
    more_is_better: bool

    @property
    def verdict(self) -> str:
        """Whether B is better, worse, or not distinguishable at 95 %."""
        if self.interval is None:
            return "no interval"
        low, high = self.interval
        if low <= 1 <= high:
            return "no difference"
        return "B better" if (low > 1) == self.more_is_better else "B worse"


class BenchmarkComparison(NamedTuple):
    """The comparison of two results.

    Attributes:
        rows: The figures that both results have.
        warnings: Reasons to doubt the comparison.
        left_out: Configurations that only one result has.
    """

    rows: Tuple[ComparedFigure, ...]
    warnings: Tuple[str, ...]
    left_out: Tuple[str, ...]

    def to_dict(self) -> Dict[str, Any]:
        """For JSON."""
        return {
            "rows": [{**row._asdict(), "verdict": row.verdict} for row in self.rows],
            "warnings": list(self.warnings),
            "left_out": list(self.left_out),
        }


def compare(
    first: Mapping[str, Any], second: Mapping[str, Any], paths: Tuple[str, str], *, across_machines: bool = False
) -> BenchmarkComparison:
    """Compares B with A.

    Args:
        first: A, as returned by `result_file.read_result`.
        second: B.
        paths: Their files, for messages.
        across_machines: Allow different machines.

    Raises:
        UsageError: They cannot be compared: different machines or input shapes, or no configuration in common.
        InputError: One of them is damaged.
    """
    try:
        _refuse(first, second, across_machines=across_machines)
        ours, theirs = _by_configuration(first), _by_configuration(second)
        shared = [key for key in ours if key in theirs]
        if not shared:
            raise UsageError(
                "they have no configuration in common",
                f"A has {', '.join(map(_name, ours))}; B has {', '.join(map(_name, theirs))}",
            )
        rows = [row for key in shared for row in _rows(_name(key), ours[key], theirs[key])]
        rows += _memory_rows(first, second)
        left_out = [f"{_name(key)} (only A)" for key in ours if key not in theirs]
        left_out += [f"{_name(key)} (only B)" for key in theirs if key not in ours]
        return BenchmarkComparison(tuple(rows), tuple(_warnings(first, second)), tuple(left_out))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise InputError(" or ".join(paths), f"is damaged: {type(error).__name__}: {error}") from error


def ratio_of_means(first: Sequence[float], second: Sequence[float]) -> Optional[Tuple[float, Optional[Interval]]]:
    """(ratio, interval) of two sets of rounds; see the module.

    None where a set is empty or a value is not above zero.
    """
    if not first or not second or min(*first, *second) <= 0:
        return None
    a, b = np.log(np.asarray(first, np.float64)), np.log(np.asarray(second, np.float64))
    difference = float(b.mean() - a.mean())
    if len(a) < 2 or len(b) < 2:
        return math.exp(difference), None
    parts = (float(a.var(ddof=1)) / len(a), float(b.var(ddof=1)) / len(b))
    error = sum(parts)
    denominator = parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1)
    degrees = error**2 / denominator if denominator > 0 else math.inf
    half = student_t(min(degrees, len(a) + len(b) - 2)) * math.sqrt(error)
    return math.exp(difference), (exp(difference - half), exp(difference + half))


def _refuse(first: Mapping[str, Any], second: Mapping[str, Any], *, across_machines: bool) -> None:
    a, b = first["machine"], second["machine"]
    differing = [key for key in ("model", "processor", "cores", "gpu") if a[key] != b[key]]
    if differing and not across_machines:
        told = "; ".join(f"{key}: {a[key] or 'none'} and {b[key] or 'none'}" for key in differing)
        raise UsageError(f"they were measured on different machines ({told})", "add --across-machines if you mean it")
    if first["model"]["input"]["shape"][1:] != second["model"]["input"]["shape"][1:]:
        raise UsageError(
            f"their inputs have different shapes: {first['model']['input']['shape']} "
            f"and {second['model']['input']['shape']}"
        )


def _by_configuration(result: Mapping[str, Any]) -> Dict[Tuple[int, int], Mapping[str, Any]]:
    return {(int(part["batch"]), int(part["streams"])): part for part in result["configurations"]}


def _name(key: Tuple[int, int]) -> str:
    return f"batch {key[0]}, {key[1]} stream{'s' if key[1] > 1 else ''}"


def _rows(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> List[ComparedFigure]:
    rows = [
        _row(name, f"{scope} {statistic}", "ms", ours["milliseconds"][scope], theirs["milliseconds"][scope], statistic)
        for scope in SCOPES
        for statistic in STATISTICS
    ]
    for key, label in _THROUGHPUTS:
        rows.append(_row(name, label, "images/s", ours, theirs, key, more_is_better=True))
    for key, label in _ENERGIES:
        rows.append(_row(name, label, "mJ", ours["energy"][RUN], theirs["energy"][RUN], key))
    return [row for row in rows if row is not None]


_THROUGHPUTS = (("images_per_second", "throughput"), ("end_to_end_images_per_second", "end-to-end throughput"))
_ENERGIES = (("millijoules_per_image", "energy per image"), ("above_idle", "energy above idle"))


def _row(
    name: str,
    figure: str,
    unit: str,
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    key: str,
    *,
    more_is_better: bool = False,
) -> Optional[ComparedFigure]:
    """The row of one figure; None if either result has not measured it, or it is not above zero."""
    a, b = ours.get(key, {}), theirs.get(key, {})
    if not (a.get("value") or 0) > 0 or not (b.get("value") or 0) > 0:
        return None
    found = ratio_of_means(a["rounds"], b["rounds"])
    if found is None:
        return ComparedFigure(name, figure, unit, a["value"], b["value"], b["value"] / a["value"], None, more_is_better)
    first, second = (exp(float(np.mean(np.log(part["rounds"])))) for part in (a, b))
    return ComparedFigure(name, figure, unit, first, second, *found, more_is_better)


def _memory_rows(first: Mapping[str, Any], second: Mapping[str, Any]) -> List[ComparedFigure]:
    a, b = first["memory"]["process"]["peak"], second["memory"]["process"]["peak"]
    if not a or not b:
        return []
    return [ComparedFigure("process", "peak memory", "MB", a / 1e6, b / 1e6, b / a, None, False)]


def _warnings(first: Mapping[str, Any], second: Mapping[str, Any]) -> List[str]:
    found = []
    for title, path in _LOOKED_AT:
        a, b = _at(first, path), _at(second, path)
        if a != b:
            found.append(f"{title} differ: {_only(a, b) or 'none'} and {_only(b, a) or 'none'}")
    for label, result in (("A", first), ("B", second)):
        slowed = result["state"]["throttling"]
        found += [f"{label} was slowed down while it was measured: {reason}" for reason in slowed]
        if not all(part["warm_up"]["settled"] for part in result["configurations"]):
            found.append(f"{label}'s latency had not settled when it was measured")
    return [*found, *_clock_warnings(first, second)]


_LOOKED_AT = (
    ("the models", ("model", "sha256")),
    ("the architectures", ("model", "architecture")),
    ("the weights that the models were made from", ("model", "source_sha256")),
    ("the backends", ("backend", "name")),
    ("the backends' options", ("backend", "options")),
    ("the images", ("images", "sha256")),
    ("the kinds of images", ("images", "kind")),
    ("the power modes", ("state", "before", "power_mode")),
    ("the CPU threads", ("options", "threads")),
    ("the drivers", ("machine", "driver")),
    ("the systems", ("machine", "system")),
)


def _at(result: Any, path: Sequence[str]) -> Any:  # noqa: ANN401 - from JSON
    for key in path:
        result = result[key]
    return result[:12] if isinstance(result, str) and path[-1].endswith("sha256") else result


def _only(value: Any, other: Any) -> Any:  # noqa: ANN401 - from JSON
    """The options that differ from the other's, as text; any other value unchanged."""
    if not isinstance(value, dict) or not isinstance(other, dict):
        return value
    return ", ".join(f"{key}={part}" for key, part in value.items() if other.get(key) != part)


def _clock_warnings(first: Mapping[str, Any], second: Mapping[str, Any]) -> List[str]:
    found = []
    for key, label in (("gpu_mhz", "GPU"), ("cpu_mhz", "processor")):
        a, b = first["state"]["under_load"][key], second["state"]["under_load"][key]
        if a and b and abs(a["median"] - b["median"]) > CLOCK_DIFFERENCE * a["median"]:
            found.append(f"the {label} ran at {a['median']:.0f} MHz for A and at {b['median']:.0f} MHz for B")
    return found


def comparison_lines(comparison: BenchmarkComparison, first: str, second: str) -> List[str]:
    """The comparison as text for a terminal."""
    lines = [f"A: {first}", f"B: {second}", ""]
    current = ""
    rows: List[Sequence[str]] = []
    for row in comparison.rows:
        if row.configuration != current:
            lines += columns(rows)
            rows = [(row.configuration, "A", "B", "B/A", "95 % interval", "")]
            current = row.configuration
        between = "" if row.interval is None else f"{row.interval[0]:.3f} to {row.interval[1]:.3f}"
        rows.append(
            (
                f"  {row.figure}, {row.unit}",
                number(row.first),
                number(row.second),
                f"{row.ratio:.3f}",
                between,
                row.verdict,
            )
        )
    lines += columns(rows)
    lines += [f"left out: {text}" for text in comparison.left_out]
    return [*lines, *(f"warning: {text}" for text in comparison.warnings)]
