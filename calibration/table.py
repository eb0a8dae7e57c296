"""The calibration table: the range of each tensor's values, and where each method would clip them.

It is JSON, does not depend on a TensorRT version, and is byte-identical for the same model, images and options. The
Q/DQ model (`quantization/qdq_insert.py`) and TensorRT's own cache (`tensorrt_cache.py`) are made from it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from googlenet_deploy.calibration.methods import AUTO, METHODS
from googlenet_deploy.device.files import reason, write_json
from googlenet_deploy.device.specification import Preprocessing, describe_difference
from googlenet_deploy.device.text import printable
from googlenet_deploy.errors import BadTableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from googlenet_deploy.calibration.placement import ScaleGroup
    from googlenet_deploy.device.files import PathLike

FORMAT = "googlenet-deploy calibration table"
FORMAT_VERSION = 1
# Scales are symmetric around zero; the values that they scale may also use the code below -127.
LARGEST_CODE, SMALLEST_CODE = 127, -128
# A tensor that is always zero has no range; any scale keeps it zero, and a step of 1/127 overflows nothing.
FALLBACK_AMAX = 1.0
# Below it, a scale of amax / 127 is no longer a normal float32; such a tensor counts as always zero.
SMALLEST_AMAX = float(np.finfo(np.float32).tiny) * LARGEST_CODE
LARGEST_AMAX = float(np.finfo(np.float32).max)
CONTENT_DIGITS = 8


@dataclass(frozen=True)
class TensorRecord:
    """What calibration measured for one set of tensors that share their values.

    Attributes:
        members: The tensors that this record describes; the first is the one that was observed.
        minimum: Smallest value seen.
        maximum: Largest value seen.
        amax: Largest absolute value that is represented, by method, "auto" included; beyond it values are clipped.
        chosen: The rule behind "auto": a method's name, or a share of the largest value ("0.84 of max").
        errors: Signal over the error that `auto` compares, on held-back images, by method, in dB.
        saturated: Share of the values seen that are clipped, by method, 0..1.
        zero: The tensor was zero throughout; `amax` is a placeholder.
    """

    members: tuple[str, ...]
    minimum: float
    maximum: float
    amax: Mapping[str, float]
    chosen: str
    errors: Mapping[str, float] = field(default_factory=dict)
    saturated: Mapping[str, float] = field(default_factory=dict)
    zero: bool = False


@dataclass(frozen=True)
class ImageRecord:
    """The images that were used.

    Attributes:
        count: Images seen.
        folds: Number of sets that they were divided into, each held back once for `auto`.
        skipped: Images that could not be read.
        sha256: Hash over names and contents in the order used.
        contents: The first eight hexadecimal digits of the SHA-256 of each image's file, in the order used, to find out
            whether an image was among them.
    """

    count: int
    folds: int
    skipped: int
    sha256: str
    contents: tuple[str, ...] = ()

    def holds(self, content: str) -> bool:
        """Whether an image with this SHA-256 was used."""
        return content[:CONTENT_DIGITS] in self.contents


@dataclass(frozen=True)
class CalibrationTable:
    """The result of a calibration.

    Attributes:
        records: One per set of tensors with the same values, in graph order.
        method: The method that is used by default.
        options: Settings of the methods, such as the percentile.
        images: The images that were used.
        preprocessing: How they were prepared.
        model_sha256: Hash of the ONNX file that was run.
        model: The model's own metadata: architecture, hash of its weights.
        tool_version: Version of googlenet-deploy.
        path: Its file, for error messages.
    """

    records: tuple[TensorRecord, ...]
    method: str
    options: Mapping[str, float]
    images: ImageRecord
    preprocessing: Preprocessing
    model_sha256: str
    model: Mapping[str, str] = field(default_factory=dict)
    tool_version: str = ""
    path: str = field(default="calibration table", compare=False, repr=False)

    def record_of(self, tensor: str) -> TensorRecord | None:
        """The record that describes a tensor, or None."""
        return next((record for record in self.records if tensor in record.members), None)

    def amax(self, tensor: str, method: str | None = None) -> float:
        """The clipping threshold of a tensor.

        Args:
            tensor: Any member of a record.
            method: One of `METHODS` or "auto"; None uses the table's own.

        Raises:
            BadTableError: The table lacks the tensor or the method.
        """
        record = self.record_of(tensor)
        if record is None:
            raise BadTableError(
                self.path, f"contains nothing about tensor {printable(tensor)!r}", "run `calibrate` again"
            )
        try:
            return record.amax[method or self.method]
        except KeyError:
            raise BadTableError(self.path, f"has no threshold by method {method!r}") from None

    def to_dict(self) -> dict[str, Any]:
        """The table as plain JSON values."""
        head = {"format": FORMAT, "version": FORMAT_VERSION}
        return {
            **head,
            "tool_version": self.tool_version,
            "model_sha256": self.model_sha256,
            "model": dict(sorted(self.model.items())),
            "preprocessing": self.preprocessing.to_dict(),
            "images": asdict(self.images),
            "method": self.method,
            "options": dict(sorted(self.options.items())),
            "tensors": [asdict(record) for record in self.records],
        }

    def save(self, path: PathLike) -> None:
        """Writes the table; the same table always yields the same bytes.

        Raises:
            OutputError: The file cannot be written.
        """
        write_json(path, self.to_dict())


def load_table(path: PathLike) -> CalibrationTable:
    """Reads and checks a table.

    Raises:
        BadTableError: The file is missing or is not a table, or a value in it is impossible.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadTableError(path, f"cannot be read: {reason(error)}") from error
    except (ValueError, RecursionError) as error:
        raise BadTableError(
            path, f"is not a calibration table: {printable(str(error))}", "run `calibrate` again"
        ) from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise BadTableError(path, "is not a calibration table", "pass the .json file that `calibrate` wrote")
    if values.get("version") != FORMAT_VERSION:
        raise BadTableError(
            path, f"is a table of format version {printable(str(values.get('version')))}, this tool reads 1"
        )
    try:
        return replace(_from_dict(values), path=str(path))
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, UsageError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise BadTableError(
            path, f"is a damaged calibration table: {printable(what)}", "run `calibrate` again"
        ) from error


def check_matches(
    table: CalibrationTable, path: PathLike, model_sha256: str, preprocessing: Preprocessing | None
) -> list[str]:
    """Checks that a table matches the model to be quantised.

    Args:
        table: The table.
        path: The table's file, for the error message.
        model_sha256: Hash of the FP32 ONNX file.
        preprocessing: The model's own preprocessing, or None if it states none.

    Returns:
        Warnings: differences that do not invalidate the table.

    Raises:
        BadTableError: The table was made from another model or with another preprocessing.
    """
    if preprocessing is not None:
        different = describe_difference(table.preprocessing, preprocessing)
        if different:
            field_name, (ours, theirs) = next(iter(different.items()))
            raise BadTableError(
                path,
                f"was made with another preprocessing: {field_name} {ours}, the model's is {theirs}",
                "calibrate this model again",
            )
    if table.model_sha256 != model_sha256:
        raise BadTableError(
            path,
            f"was made from another model (SHA-256 {table.model_sha256[:12]}..., this one is {model_sha256[:12]}...)",
            "calibrate this model, or pass the one that the table was made from",
        )
    return [] if preprocessing is not None else ["the model does not state how its images are prepared"]


def group_scales(groups: Iterable[ScaleGroup], table: CalibrationTable, method: str | None = None) -> dict[str, float]:
    """The scale of every tensor of a plan's groups: amax / 127, as float32; equal within a group.

    Raises:
        BadTableError: The table lacks a tensor or the method.
    """
    scales: dict[str, float] = {}
    for group in groups:
        amax = max(table.amax(name, method) for name in _known_members(group, table))
        scales.update(dict.fromkeys(group.members, scale_from_amax(amax)))
    return scales


def scale_from_amax(amax: float) -> float:
    """TensorRT's scale of a symmetric range, in float32 as it stores it."""
    return float(np.float32(amax) / np.float32(LARGEST_CODE))


def _known_members(group: ScaleGroup, table: CalibrationTable) -> Iterable[str]:
    """The observed members; another member if the table was made for a plan that observed that one."""
    known = [name for name in group.observed if table.record_of(name) is not None]
    return known if len(known) == len(group.observed) else group.observed


def _from_dict(values: Mapping[str, Any]) -> CalibrationTable:
    if not isinstance(values["preprocessing"], dict):
        raise ValueError("its preprocessing is none")  # noqa: TRY004 - reported as any other damage
    table = CalibrationTable(
        records=tuple(_record(entry) for entry in values["tensors"]),
        method=str(values["method"]),
        options=_numbers(values["options"]),
        images=_images(values["images"]),
        preprocessing=Preprocessing.from_dict(values["preprocessing"]),
        model_sha256=str(values["model_sha256"]),
        model={str(key): str(value) for key, value in values["model"].items()},
        tool_version=str(values["tool_version"]),
    )
    if table.method not in (*METHODS, AUTO):
        raise ValueError(f"unknown method {table.method!r}")
    names = [name for record in table.records for name in record.members]
    if not names or len(set(names)) != len(names):
        raise ValueError("a tensor is named twice, or none is")
    return table


def _record(entry: Mapping[str, Any]) -> TensorRecord:
    record = TensorRecord(
        members=_texts(entry["members"]),
        minimum=_number(entry["minimum"]),
        maximum=_number(entry["maximum"]),
        amax=_numbers(entry["amax"]),
        chosen=str(entry["chosen"]),
        errors=_numbers(entry["errors"]),
        saturated=_numbers(entry["saturated"]),
        zero=_flag(entry["zero"]),
    )
    name = printable(record.members[0]) if record.members else "?"
    for values, what in ((record.amax, "threshold"), (record.saturated, "clipped share")):
        missing = {*METHODS, AUTO} - set(values)
        if missing:
            raise ValueError(f"{name}: no {what} by method {min(missing)!r}")
    if not all(SMALLEST_AMAX <= value <= LARGEST_AMAX for value in record.amax.values()):
        raise ValueError(f"{name}: a threshold is not a positive number")
    if not all(0 <= value <= 1 for value in record.saturated.values()):
        raise ValueError(f"{name}: a clipped share is not between 0 and 1")
    if not (math.isfinite(record.minimum) and math.isfinite(record.maximum) and record.minimum <= record.maximum):
        raise ValueError(f"{name}: its range is impossible")
    return record


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is not a number")  # noqa: TRY004 - reported as any other damage
    return float(value)


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {str(key): _number(value) for key, value in values.items()}


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{values!r} is not a list of names")
    return tuple(values)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")  # noqa: TRY004 - reported as any other damage
    return value


def _images(entry: Mapping[str, Any]) -> ImageRecord:
    count, folds, skipped = (_count(entry[key]) for key in ("count", "folds", "skipped"))
    return ImageRecord(count, folds, skipped, str(entry["sha256"]), _texts(entry["contents"]))


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError(f"{value!r} is not a number of images")
    return value
