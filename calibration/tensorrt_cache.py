"""TensorRT's INT8 calibration cache, for implicit quantisation (TensorRT 10 and earlier).

Its form::

    TRT-8502-EntropyCalibration2
    input: 3c010a14

The first line names the version, ``1000 major + 100 minor + patch`` before TensorRT 10 and ``10000 major + 100 minor +
patch`` from then on, and the algorithm, which must be that of the calibrator that reads it: trtexec's is
EntropyCalibration2. Every other line holds a tensor's name and its scale, amax / 127, as the hexadecimal digits of the
big-endian IEEE-754 float32; TensorRT writes no leading zeros, so a scale of zero is ``0``.

A tensor that is not in the cache keeps its layer in float. Besides the ONNX model's tensors TensorRT has some of its
own, which its parser makes around Gemm; their names contain the index of the layer in its network:

* MatrixMultiply form: ``(Unnamed Layer* i) [Constant]_output``, ``i+1 [Matrix Multiply]``, ``i+2 [Constant]``, ``i+3
  [Shuffle]``. These names are from a cache that TensorRT 8.5.10 wrote for a net with reshape and Gemm.
* FullyConnected form, of the parsers up to 8.4: ``(Unnamed Layer* i) [Shuffle]_output``, ``i+1 [Fully Connected]``.
  These names are from build logs of TensorRT 8.

They are only known if the batch is fixed: with a dynamic one Flatten becomes a varying number of shape layers.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.calibration.methods import ALGORITHMS
from googlenet_deploy.calibration.options import PlacementOptions
from googlenet_deploy.calibration.placement import place
from googlenet_deploy.calibration.table import group_scales, scale_from_amax
from googlenet_deploy.calibration.watched_tensors import is_fused
from googlenet_deploy.device.files import reason, write_text
from googlenet_deploy.errors import BadTableError, UsageError, requires
from googlenet_deploy.graph.graph import GraphView

with requires("export"):
    import onnx

if TYPE_CHECKING:
    from googlenet_deploy.calibration.table import CalibrationTable
    from googlenet_deploy.device.files import PathLike

_HEADER = re.compile(r"TRT-(\d+)-(\w+)")
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:\.\d+)*")
# Operators that TensorRT's parser turns into one layer each if all shapes are known.
ONE_LAYER = frozenset(
    {"Conv", "Relu", "MaxPool", "LRN", "Concat", "AveragePool", "GlobalAveragePool", "Flatten", "BatchNormalization"}
)
UNKNOWN_NAMES = (
    "TensorRT names tensors around the classifier by layer numbers, which cannot be known here: they are not in the "
    "cache, and the classifier may run in float"
)
DYNAMIC_NOTE = f"{UNKNOWN_NAMES} (the batch is dynamic: export with --batch N to have them)"


@dataclass(frozen=True)
class CalibrationCache:
    """The content of a cache.

    Attributes:
        number: Version number of the header.
        algorithm: The algorithm of the header.
        scales: Scales by tensor, in the order of the file.
    """

    number: int
    algorithm: str
    scales: Mapping[str, float]

    def to_text(self) -> str:
        """The file's content."""
        lines = [f"TRT-{self.number}-{self.algorithm}"]
        lines += [f"{name}: {_to_hex(scale)}" for name, scale in self.scales.items()]
        return "\n".join(lines) + "\n"

    def save(self, path: PathLike) -> None:
        """Writes the file atomically.

        Raises:
            OutputError: The file cannot be written.
        """
        write_text(path, self.to_text())


def header_number(version: str) -> int:
    """The header's number for a TensorRT version such as "8.5.2".

    Raises:
        UsageError: The version is not major.minor.patch, or it has no implicit INT8 (TensorRT 11 and later).
    """
    match = _VERSION.fullmatch(version.strip())
    if match is None:
        raise UsageError(f"{version!r} is not a TensorRT version: write major.minor.patch, such as 8.5.2")
    major, minor, patch = map(int, match.groups())
    if major >= 11:
        raise UsageError(f"TensorRT {version} has no calibration caches: pass it the Q/DQ model")
    return major * (1000 if major < 10 else 10000) + minor * 100 + patch


def parse_cache(text: str, path: PathLike = "calibration cache") -> CalibrationCache:
    """Reads a cache's content.

    Raises:
        BadTableError: It is not a cache, or one of its lines is damaged.
    """
    lines = text.splitlines()
    header = _HEADER.fullmatch(lines[0].strip()) if lines else None
    if header is None:
        raise BadTableError(
            path, "is not a TensorRT calibration cache: it does not begin with TRT-<number>-<algorithm>"
        )
    scales: dict[str, float] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        name, separator, digits = line.rpartition(": ")
        if not separator or not name or re.fullmatch(r"[0-9a-fA-F]{1,8}", digits.strip()) is None:
            raise BadTableError(path, f"line {number} is not 'tensor: scale in hexadecimal digits'")
        scale = _from_hex(digits.strip())
        if not math.isfinite(scale) or scale < 0:
            raise BadTableError(path, f"line {number}: the scale {scale} is impossible")
        scales[name] = scale
    return CalibrationCache(int(header[1]), header[2], scales)


def load_cache(path: PathLike) -> CalibrationCache:
    """Reads a cache from a file; see `parse_cache`."""
    try:
        return parse_cache(Path(path).read_text(encoding="utf-8"), path)
    except OSError as error:
        raise BadTableError(path, f"cannot be read: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise BadTableError(path, "is not a TensorRT calibration cache: it is not text") from error


def cache_from_table(
    table: CalibrationTable,
    model: onnx.ModelProto,
    version: str,
    algorithm: str = ALGORITHMS[0],
    method: str | None = None,
) -> tuple[CalibrationCache, list[str]]:
    """The cache of a table for one TensorRT version.

    The inputs of a Concat get the scale of its output, so that TensorRT need not rescale them, and both sides of a
    MaxPool one scale, as in the Q/DQ model.

    Args:
        table: The calibration.
        model: The FP32 model that it was made from.
        version: Version of the TensorRT that will read the cache, major.minor.patch.
        algorithm: One of `ALGORITHMS`.
        method: Threshold method; None uses the table's own.

    Returns:
        The cache, and notes: tensors that it lacks.

    Raises:
        UsageError: The version or algorithm has no cache.
        BadTableError: The table lacks the method.
    """
    number = header_number(version)
    if algorithm not in ALGORITHMS:
        raise UsageError(f"unknown algorithm {algorithm!r}: choose {' or '.join(ALGORITHMS)}")
    graph = GraphView(model)
    shared = _shared_scales(graph, table, method)
    scales: dict[str, float] = {}
    missing = []
    for name in graph.activations():
        known = name if not is_fused(graph, name) else graph.readers(name)[0].output[0]
        if known in shared:
            scales[name] = shared[known]
        elif table.record_of(known) is not None:
            scales[name] = scale_from_amax(table.amax(known, method))
        else:
            missing.append(name)
    notes = _missing_note(missing)
    for node in graph.nodes:
        if node.op_type == "Gemm":
            notes += _add_inner_tensors(graph, node, version, scales)
    return CalibrationCache(number, algorithm, scales), notes


def _shared_scales(graph: GraphView, table: CalibrationTable, method: str | None) -> dict[str, float]:
    plan = place(graph, PlacementOptions(dla=True))
    known = tuple(group for group in plan.groups if all(table.record_of(name) is not None for name in group.observed))
    return group_scales(known, table, method)


def _missing_note(missing: list[str]) -> list[str]:
    if not missing:
        return []
    lacking = f"the cache lacks {len(missing)} tensors, such as {missing[0]}"
    return [f"{lacking}: TensorRT keeps their layers in float (calibrate with --tensors all)"]


def _add_inner_tensors(graph: GraphView, node: onnx.NodeProto, version: str, scales: dict[str, float]) -> list[str]:
    """Adds the tensors that TensorRT's parser makes for a Gemm; returns a note if their names cannot be known."""
    if not _has_fixed_shape(graph):
        return [DYNAMIC_NOTE]
    index = _layers_before(graph, node)
    if index is None:
        return [UNKNOWN_NAMES]
    major, minor = map(int, version.split(".")[:2])
    data, output = scales.get(node.input[0]), scales.get(node.output[0])
    if data is None or output is None:
        return []
    if (major, minor) < (8, 5):
        scales[f"(Unnamed Layer* {index}) [Shuffle]_output"] = data
        scales[f"(Unnamed Layer* {index + 1}) [Fully Connected]_output"] = output
    if (major, minor) >= (8, 4):
        scales[f"(Unnamed Layer* {index}) [Constant]_output"] = _constant_scale(graph, node.input[1])
        scales[f"(Unnamed Layer* {index + 1}) [Matrix Multiply]_output"] = output
        if len(node.input) > 2:
            bias = _constant_scale(graph, node.input[2])
            scales[f"(Unnamed Layer* {index + 2}) [Constant]_output"] = bias
            scales[f"(Unnamed Layer* {index + 3}) [Shuffle]_output"] = bias
    return []


def _has_fixed_shape(graph: GraphView) -> bool:
    value = next(value for value in graph.model.graph.input if value.name in graph.inputs)
    return all(size.dim_value for size in value.type.tensor_type.shape.dim)


def _layers_before(graph: GraphView, node: onnx.NodeProto) -> int | None:
    """Number of layers that TensorRT's network has before a node; None if that is not known."""
    for count, other in enumerate(graph.nodes):
        if other.output[0] == node.output[0]:
            return count
        if other.op_type not in ONE_LAYER:
            return None
    return None


def _constant_scale(graph: GraphView, name: str) -> float:
    return scale_from_amax(float(np.abs(graph.constant(name)).max()))


def _to_hex(scale: float) -> str:
    digits = struct.pack(">f", scale).hex().lstrip("0")
    return digits or "0"


def _from_hex(digits: str) -> float:
    value: float = struct.unpack(">f", bytes.fromhex(digits.rjust(8, "0")))[0]
    return value
