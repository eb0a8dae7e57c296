"""Deployment targets: the Jetson modules, one packaged profile each, and bare software versions.

A target is a module (``orin-nano``), a JetPack (``jetpack-5.1``), a TensorRT (``tensorrt-10.3``, ``tensorrt-11``) or
``tensorrt-rtx``. Modules come from the TOML files in ``targets/``, where every figure has a source; a figure without
one is left out, and whatever needs it reports that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from googlenet_deploy.device.resources import read_resource, resource_names
from googlenet_deploy.device.targets.jetpack import jetpack_lines, tensorrt_of_jetpack
from googlenet_deploy.device.targets.toml_subset import parse_toml
from googlenet_deploy.errors import UsageError

FOLDER = "targets"
RTX = "tensorrt-rtx"

# First TensorRT with each limit (docs/operators.md of onnx-tensorrt's releases).
_OPSETS = (((8, 0), 13), ((8, 4), 17), ((9, 0), 19), ((10, 0), 20), ((10, 15), 24))
# Compute capabilities of GPUs with TensorRT support that have no INT8 instructions.
NO_INT8 = frozenset({(5, 0), (5, 2), (5, 3), (6, 0), (6, 2)})
_SOFTWARE = re.compile(r"(jetpack|tensorrt)-(\d{1,3})(?:\.(\d{1,3}|x))?(?:\.(\d{1,4}))?(?:\.\d{1,4})?")


@dataclass(frozen=True)
class PowerMode:
    """One mode of ``nvpmodel``.

    Attributes:
        name: As in /etc/nvpmodel.conf.
        watts: The mode's power budget; None if it has no limit or none is stated.
        gpu_mhz: Largest GPU clock.
        memory_mhz: Largest clock of the memory controller.
        sms: Streaming multiprocessors that are powered; None for all.
    """

    name: str
    watts: Optional[float]
    gpu_mhz: float
    memory_mhz: float
    sms: Optional[int]


@dataclass(frozen=True)
class Module:
    """Hardware of one module.

    Attributes:
        compute_capability: (major, minor).
        types: Types that its GPU computes in: "fp32", "fp16", "bf16", "int8", "fp8", "fp4".
        dla_cores: Deep learning accelerators.
        memory_bytes: Memory shared by CPU and GPU; None if no source is known.
        sms: Streaming multiprocessors; None if no source is known.
        operations: Dense operations per clock and streaming multiprocessor by type, one multiply-add being two.
        bus_bits: Width of the memory bus; None if no source is known.
        power_modes: Its power modes.
        jetpacks: JetPacks that it runs, oldest first.
        sources: Sources of the figures.
        missing: Figures left out for lack of a source.
    """

    compute_capability: Tuple[int, int]
    types: Tuple[str, ...]
    dla_cores: int
    memory_bytes: Optional[int]
    sms: Optional[int]
    operations: Dict[str, int]
    bus_bits: Optional[int]
    power_modes: Tuple[PowerMode, ...]
    jetpacks: Tuple[str, ...]
    sources: Tuple[str, ...]
    missing: Tuple[str, ...]

    def peak(self, kind: str, mode: PowerMode) -> Optional[float]:
        """Dense operations per second in a type and power mode; None if the profile does not have it."""
        per_clock = self.operations.get(kind)
        sms = mode.sms or self.sms
        return per_clock * sms * mode.gpu_mhz * 1e6 if per_clock and sms else None

    def bandwidth(self, mode: PowerMode) -> Optional[float]:
        """Bytes per second of the memory in a power mode: two transfers per clock over the bus."""
        return mode.memory_mhz * 1e6 * 2 * self.bus_bits / 8 if self.bus_bits else None


@dataclass(frozen=True)
class Target:
    """Where a model is to run.

    Attributes:
        name: The requested name, in lower case.
        title: Human-readable name.
        tensorrt: Its TensorRT versions, oldest first, as (major, minor); empty for TensorRT-RTX.
        module: Its hardware; None for a bare software version.
    """

    name: str
    title: str
    tensorrt: Tuple[Tuple[int, int], ...]
    module: Optional[Module] = None

    @property
    def rtx(self) -> bool:
        """Whether it is TensorRT-RTX."""
        return not self.tensorrt

    @property
    def reader(self) -> str:
        """The oldest library that reads a model on the target: ``TensorRT 8.5``."""
        return "TensorRT-RTX" if self.rtx else "TensorRT " + ".".join(map(str, self.tensorrt[0]))

    @property
    def largest_opset(self) -> int:
        """Largest ONNX opset that all of the target's TensorRT versions read."""
        return largest_opset(self.tensorrt[0]) if self.tensorrt else _OPSETS[-1][1]

    @property
    def has_int8(self) -> Optional[bool]:
        """Whether its GPU computes in INT8; None for a bare software version."""
        return None if self.module is None else "int8" in self.module.types


def largest_opset(version: Tuple[int, ...]) -> int:
    """Largest ONNX opset that a TensorRT reads; for versions between two documented ones, the earlier one's."""
    return max((opset for first, opset in _OPSETS if first <= tuple(version[:2])), default=_OPSETS[0][1])


def target_names() -> List[str]:
    """The modules that have a profile."""
    return resource_names(FOLDER, ".toml")


def load_target(name: str) -> Target:
    """Looks a target up.

    Raises:
        UsageError: There is no such target.
    """
    lowered = name.strip().lower()
    if lowered == RTX:
        return Target(lowered, "TensorRT-RTX", ())
    if lowered in target_names():
        return _module_target(lowered)
    match = _SOFTWARE.fullmatch(lowered)
    version = _software_version(match) if match else None
    if match is None or version is None:
        jetpacks = ", ".join(f"jetpack-{major}.{minor}" for major, minor in jetpack_lines())
        raise UsageError(
            f"unknown target {name!r}",
            f"choose a module ({', '.join(target_names())}), {jetpacks}, tensorrt-8.2 ... tensorrt-11, or {RTX}",
        )
    title = f"{'JetPack' if match.group(1) == 'jetpack' else 'TensorRT'} {lowered.partition('-')[2]}"
    if match.group(1) == "jetpack":
        title += f" (TensorRT {version[0]}.{version[1]})"
    return Target(lowered, title, (version,))


def _software_version(match: Any) -> Optional[Tuple[int, int]]:  # noqa: ANN401 - re.Match has no parameter in 3.8
    major, minor, patch = int(match.group(2)), match.group(3), match.group(4)
    version = (major, int(minor) if minor and minor != "x" else 0)
    if match.group(1) == "jetpack":
        if not minor or minor == "x":
            return None
        return tensorrt_of_jetpack((*version, int(patch)) if patch else version)
    return version if (8, 0) <= version < (12, 0) else None


def _module_target(name: str) -> Target:
    values = parse_toml(read_resource(f"{FOLDER}/{name}.toml"))
    gpu, memory = values["gpu"], values["memory"]
    software = tuple(str(jetpack) for jetpack in values["jetpacks"])
    versions = {_installed_tensorrt(name, jetpack) for jetpack in software}
    module = Module(
        compute_capability=_pair(gpu["compute_capability"]),
        types=tuple(gpu["types"]),
        dla_cores=values["dla_cores"],
        memory_bytes=memory["gib"] * 2**30 if "gib" in memory else None,
        sms=gpu.get("sms"),
        operations=dict(values.get("operations_per_clock_and_sm", {})),
        bus_bits=memory.get("bus_bits"),
        power_modes=tuple(
            PowerMode(mode["name"], mode.get("watts"), mode["gpu_mhz"], mode["memory_mhz"], mode.get("sms"))
            for mode in values.get("power_modes", [])
        ),
        jetpacks=software,
        sources=tuple(values["sources"]),
        missing=tuple(values.get("missing", [])),
    )
    return Target(name, values["title"], tuple(sorted(versions)), module)


def _installed_tensorrt(name: str, jetpack: str) -> Tuple[int, int]:
    version = tensorrt_of_jetpack(_pair(jetpack))
    if version is None:
        raise ValueError(f"{FOLDER}/{name}.toml: JetPack {jetpack} is not in the table of JetPacks")
    return version


def _pair(text: str) -> Tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


_LAST_MAJOR = 10  # TensorRT 11 has no implicit INT8


def with_caches(target: Target) -> list[tuple[int, int]]:
    """The TensorRT versions of a target that read calibration caches, oldest first."""
    return [version for version in target.tensorrt if version[0] <= _LAST_MAJOR]


def last_with_caches(target: Target) -> tuple[int, int] | None:
    """The newest of them; None if there are none."""
    return max(with_caches(target), default=None)


# The first TensorRT known to read INT8 constants before DequantizeLinear: libnvinfer 8.5.2 has a check that says
# "Int8 constant is only allowed before DQ node"; NVIDIA's developer guide for 10.0 and later: weights may be of "a
# low-precision quantized type (INT8, FP8 or INT4)". TensorRT-RTX 1.7's parser and builder take them (tests/contract).
INTEGER_WEIGHTS_SINCE = (8, 5)


def reads_integer_weights(target: Target) -> bool:
    """Whether every TensorRT of a target reads quantised weights as integers, in a quarter of the file's size."""
    return target.rtx or target.tensorrt[0] >= INTEGER_WEIGHTS_SINCE
