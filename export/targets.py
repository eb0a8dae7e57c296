"""What each deployment target reads: the largest ONNX opset and IR version.

Sources for the opsets: the support tables of onnx-tensorrt's releases (``docs/operators.md``, "TensorRT X supports
operators up to opset N"); for the TensorRT of a JetPack, NVIDIA's JetPack release notes. Where a release between two
documented ones says nothing, it is taken to read no more than the earlier one. The IR version of an opset is the one
of the ONNX release that introduced it (``docs/Versioning.md`` of onnx).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from googlenet_deploy.errors import UsageError

# Opset 17 is the default: every TensorRT from 8.4 on reads it, thus every JetPack from 5 on, and so does ONNX Runtime
# from 1.12 on. None of our operators gained anything in a later one. Only JetPack 4.6 needs less, and asking for it
# by name is how its user learns of the other limits there.
DEFAULT_OPSET = 17
# Per-axis QuantizeLinear, Split's and Softmax's present form all date from opset 13; there's no older target.
SMALLEST_OPSET = 13

# First TensorRT release with each limit, ascending. TensorRT 8.3 was never released.
_TENSORRT_OPSETS: tuple[tuple[tuple[int, int], int], ...] = (
    ((8, 0), 13),
    ((8, 4), 17),
    ((9, 0), 19),
    ((10, 0), 20),
    ((10, 15), 24),
)
_NEWEST_TENSORRT = 11
# TensorRT that a JetPack brings, by (major, minor); every patch release of one brings the same.
_JETPACK_TENSORRT: dict[tuple[int, int], tuple[int, int]] = {
    (4, 6): (8, 2),
    (5, 1): (8, 5),
    (6, 0): (8, 6),
    (6, 1): (10, 3),
    (6, 2): (10, 3),
    (7, 0): (10, 13),
    (7, 1): (10, 13),
    (7, 2): (10, 16),
}
# TensorRT-RTX 1.x carries TensorRT 11's parser.
_RTX = "tensorrt-rtx"
# Smallest IR version that holds each opset.
_IR_VERSIONS = {13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12}
LARGEST_OPSET = max(_IR_VERSIONS)

TARGETS_HELP = (
    "jetpack-" + "|".join(f"{major}.{minor}" for major, minor in _JETPACK_TENSORRT) + ", tensorrt-8.2 ... 11, " + _RTX
)


@dataclass(frozen=True)
class Target:
    """Where a model is to run.

    Attributes:
        name: As the user wrote it, in lower case.
        tensorrt: (major, minor) of its TensorRT; None for TensorRT-RTX.
        largest_opset: Largest ONNX opset that its parser reads.
    """

    name: str
    tensorrt: tuple[int, int] | None
    largest_opset: int

    @property
    def reader(self) -> str:
        """The library that reads the model there, for messages."""
        return "TensorRT-RTX" if self.tensorrt is None else f"TensorRT {self.tensorrt[0]}.{self.tensorrt[1]}"


def find_target(name: str) -> Target:
    """Looks a target up.

    Args:
        name: ``jetpack-X.Y[.Z]``, ``tensorrt-X[.Y[.Z]]`` or ``tensorrt-rtx``; case does not matter. ``tensorrt-X``
            and ``tensorrt-X.x`` stand for the oldest release of that major version.

    Raises:
        UsageError: There is no such target.
    """
    lowered = name.strip().lower()
    if lowered == _RTX:
        return Target(lowered, None, _TENSORRT_OPSETS[-1][1])
    match = re.fullmatch(r"(jetpack|tensorrt)-(\d{1,3})(?:\.(\d{1,3}|x))?(?:\.\d{1,4}){0,2}", lowered)
    if match is None:
        raise UsageError(f"unknown target {name!r}", f"choose one of {TARGETS_HELP}")
    kind, major, minor = match.group(1), int(match.group(2)), match.group(3)
    version = (major, int(minor) if minor and minor != "x" else 0)
    if kind == "jetpack":
        return _jetpack(lowered, version, stated=minor is not None and minor != "x")
    return Target(lowered, _released_tensorrt(lowered, version), _tensorrt_opset(version))


def choose_opset(target: Target | None, requested: int | None) -> int:
    """The opset to write: the requested one, else the default or the target's largest, whichever is smaller.

    Raises:
        UsageError: The request is beyond what the target reads, or what this toolkit writes.
    """
    limit = target.largest_opset if target else LARGEST_OPSET
    if requested is None:
        return min(DEFAULT_OPSET, limit)
    if not SMALLEST_OPSET <= requested <= LARGEST_OPSET:
        raise UsageError(f"opset {requested} is out of range", f"choose --opset {SMALLEST_OPSET} to {LARGEST_OPSET}")
    if target is not None and requested > limit:
        raise UsageError(
            f"opset {requested} is too new for {target.name}: its {target.reader} reads up to opset {limit}",
            f"leave --opset out, or give --opset {limit} or less",
        )
    return requested


def ir_version_for(opset: int) -> int:
    """The IR version to write with an opset: the smallest that holds it.

    Raises:
        UsageError: The opset is none that this toolkit writes.
    """
    try:
        return _IR_VERSIONS[opset]
    except KeyError:
        raise UsageError(f"opset {opset} is out of range") from None


def _jetpack(name: str, version: tuple[int, int], *, stated: bool) -> Target:
    known = ", ".join(f"{major}.{minor}" for major, minor in _JETPACK_TENSORRT)
    if not stated or version not in _JETPACK_TENSORRT:
        raise UsageError(f"unknown target {name!r}", f"known JetPacks are {known}; or name its TensorRT: tensorrt-X.Y")
    tensorrt = _JETPACK_TENSORRT[version]
    return Target(name, tensorrt, _tensorrt_opset(tensorrt))


def _released_tensorrt(name: str, version: tuple[int, int]) -> tuple[int, int]:
    if not _TENSORRT_OPSETS[0][0] <= version <= (_NEWEST_TENSORRT, 999):
        raise UsageError(f"unknown target {name!r}: TensorRT 8.0 to {_NEWEST_TENSORRT} are supported")
    return version


def _tensorrt_opset(version: tuple[int, int]) -> int:
    return max((opset for first, opset in _TENSORRT_OPSETS if first <= version), default=SMALLEST_OPSET)
