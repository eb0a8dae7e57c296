"""``--require p99=5ms,energy=20mJ``: checks a result against limits with units.

=====================  ===========================================  ==========  ====================
name                   what                                         must be     units
=====================  ===========================================  ==========  ====================
[SCOPE.]STATISTIC      mean, p50, p90, p95, p99, p99.9 of a scope   at most     us, ms, s
throughput             images per second, back to back              at least    /s, images/s
end_to_end_throughput  images per second from encoded images        at least    /s, images/s
energy                 energy per image, back to back               at most     uJ, mJ, J
energy_above_idle      the same beyond idling                       at most     uJ, mJ, J
memory                 peak of the process's main memory            at most     kB, MB, GB, KiB, MiB, GiB
=====================  ===========================================  ==========  ====================

The default scope is "run". Gates check the first configuration: the first --batch with the first --streams. A figure
that was not measured fails its gate.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from googlenet_deploy.device.benchmark.loops import RUN, SCOPES
from googlenet_deploy.errors import UsageError

STATISTICS = ("mean", "p50", "p90", "p95", "p99", "p99.9")
_TIMES = {"us": 1e-3, "ms": 1.0, "s": 1e3}  # in milliseconds
_ENERGIES = {"uJ": 1e-3, "mJ": 1.0, "J": 1e3}  # in millijoules
_RATES = {"/s": 1.0, "images/s": 1.0}
_SIZES = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
_OTHERS: Dict[str, Mapping[str, float]] = {
    "throughput": _RATES,
    "end_to_end_throughput": _RATES,
    "energy": _ENERGIES,
    "energy_above_idle": _ENERGIES,
    "memory": _SIZES,
}
_GATE = re.compile(r"([a-z_]+(?:\.p?[\d.]+|\.mean)?|p[\d.]+)=(\d+(?:\.\d+)?)\s*([A-Za-z/]+)")


class Gate(NamedTuple):
    """One limit.

    Attributes:
        name: Name of the limited figure, such as "p99" or "energy".
        limit: In milliseconds, millijoules, images per second or bytes.
        text: The limit as written by the user.
        scope: The scope of a latency; "" for other figures.
        statistic: Its statistic; "" for other figures.
    """

    name: str
    limit: float
    text: str
    scope: str = ""
    statistic: str = ""

    @property
    def at_least(self) -> bool:
        """Whether the figure must reach the limit instead of staying below it."""
        return self.name.endswith("throughput")


def parse_gates(text: str) -> List[Gate]:
    """Reads ``NAME=VALUE UNIT,...``.

    Raises:
        UsageError: A name, number or unit is unknown, or the unit is missing.
    """
    return [_gate(part.strip()) for part in text.split(",")]


def _gate(text: str) -> Gate:
    match = _GATE.fullmatch(text)
    if match is None:
        raise UsageError(
            f"--require {text!r}: is not NAME=NUMBER and a unit", "for example --require p99=5ms,energy=20mJ"
        )
    name, number, unit = match.groups()
    scope, statistic, units = _meaning(name)
    if unit not in units:
        raise UsageError(f"--require {text}: the unit {unit!r} is none of {', '.join(units)}")
    return Gate(name, float(number) * units[unit], f"{number}{unit}", scope, statistic)


def _meaning(name: str) -> Tuple[str, str, Mapping[str, float]]:
    if name in _OTHERS:
        return "", "", _OTHERS[name]
    scope, dot, statistic = name.partition(".")
    if name in STATISTICS:
        scope, statistic = RUN, name
    if (not dot and name not in STATISTICS) or scope not in SCOPES or statistic not in STATISTICS:
        raise UsageError(
            f"--require {name}: is not a figure",
            f"choose {', '.join((*STATISTICS, *_OTHERS))}, or one of {', '.join(SCOPES)} with .{'|.'.join(STATISTICS)}",
        )
    return scope, statistic, _TIMES


def broken_gates(gates: List[Gate], result: Mapping[str, Any]) -> List[str]:
    """One sentence for each failed gate; empty if all pass."""
    sentences = []
    for gate in gates:
        value, reason = _value(gate, result)
        if value is None:
            sentences.append(f"{gate.name}={gate.text} is required, but was not measured: {reason}")
        elif (value < gate.limit) if gate.at_least else (value > gate.limit):
            sentences.append(f"{gate.name} is {_shown(gate, value)}, required is {gate.text}")
    return sentences


def _value(gate: Gate, result: Mapping[str, Any]) -> Tuple[Optional[float], str]:
    first = result["configurations"][0]
    if gate.name == "memory":
        peak = result["memory"]["process"]["peak"]
        return peak, "the system does not report it"
    if gate.scope:
        found = first["milliseconds"][gate.scope]
        found = found.get(gate.statistic, found)
    elif gate.name == "throughput":
        found = first["images_per_second"]
    elif gate.name == "end_to_end_throughput":
        found = first["end_to_end_images_per_second"]
    else:
        energy = first["energy"][RUN]
        key = "above_idle" if gate.name == "energy_above_idle" else "millijoules_per_image"
        found = energy.get(key, energy)
    return found.get("value"), found.get("not_measured", "")


def _shown(gate: Gate, value: float) -> str:
    if gate.scope:
        return f"{value:.3f} ms"
    if gate.name == "memory":
        return f"{value / 1e6:.1f} MB"
    return f"{value:.1f} images/s" if gate.at_least else f"{value:.3f} mJ"
