"""Loads external data into the model: PyTorch's exporter writes weights to ``X.onnx.data`` by default.

All later steps work on the bytes of the complete model, so no library looks for data files itself: some libraries would
read a file of the same name in the current folder.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path, PurePosixPath
from typing import Callable, Dict, List, Optional

from googlenet_deploy.device.files import PathLike, reason
from googlenet_deploy.device.onnx_model.checks import byte_size, check_tensor
from googlenet_deploy.device.onnx_model.messages import TensorMessage, parse_tensor
from googlenet_deploy.device.onnx_model.protobuf import Field, encode, encode_field, fields
from googlenet_deploy.device.text import printable
from googlenet_deploy.errors import BadModelError

# Protobuf's limit for one message.
LARGEST_MODEL = 2**31 - 1
_DIMENSION_VALUE = 1
# The fields of each message that lead to tensors and to stated shapes.
_CHILDREN: Dict[str, Dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 11: "input", 12: "input", 13: "value"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor", 6: "graph", 11: "graph"},
    "input": {2: "type"},
    "value": {2: "inner type"},
    "type": {1: "tensor type"},
    "inner type": {1: "inner tensor type"},
    "tensor type": {2: "shape"},
    "inner tensor type": {2: "inner shape"},
    "shape": {1: "dimension"},
    "inner shape": {1: "inner dimension"},
}
_Change = Callable[[memoryview], bytes]


def with_data(content: bytes, path: PathLike) -> bytes:
    """Returns the model with the values of all its data files.

    Raises:
        BadModelError: A data file is missing, too short, not a file, or outside the model's folder; or the model with
            all its data is too large.
    """
    reader = _DataFiles(path, len(content))
    return _rewritten(memoryview(content), "model", {"tensor": reader.inlined})


def with_open_dimensions(content: bytes) -> bytes:
    """Opens every dimension that is below 1 in the model's inputs and outputs, and below 0 elsewhere."""
    changes = {
        "dimension": lambda message: _opened(message, 1),
        "inner dimension": lambda message: _opened(message, 0),  # inner tensors may be empty
    }
    return _rewritten(memoryview(content), "model", changes)


def data_file(path: PathLike, location: str) -> Path:
    """The path of a data file: in the folder of the model, or of the file that the model links to.

    Raises:
        BadModelError: The location is outside that folder.
    """
    relative = PurePosixPath(location)
    plain = location and "\0" not in location and not relative.is_absolute() and ".." not in relative.parts
    for folder in (Path(path).parent.resolve(), Path(path).resolve().parent) if plain else ():
        target = (folder / location).resolve()
        if folder in target.parents:
            return target
    raise BadModelError(path, f"its external data is outside the model's folder: {printable(repr(location))}")


class _DataFiles:
    def __init__(self, path: PathLike, size: int) -> None:
        self.path, self.total = path, size

    def inlined(self, message: memoryview) -> bytes:
        """A TensorProto with its external values stored in it."""
        tensor = parse_tensor(message)
        if tensor.external is None:
            return bytes(message)
        try:
            check_tensor(tensor)
        except ValueError as error:
            raise BadModelError(self.path, f"is damaged: {error}") from error
        kept = [encode_field(item) for item in fields(message) if item.number not in (4, 5, 6, 7, 9, 10, 11, 13, 14)]
        return b"".join([*kept, encode(9, self._values(tensor, tensor.external))])

    def _values(self, tensor: TensorMessage, places: Dict[str, str]) -> bytes:
        location, shown = places.get("location", ""), printable(places.get("location", ""))
        target, name = data_file(self.path, location), printable(tensor.name)
        offset, length = (self._number(places, key, name) for key in ("offset", "length"))
        size = byte_size(tensor)
        self.total += size
        if self.total > LARGEST_MODEL:
            raise BadModelError(
                self.path, "is larger than 2 GiB with its external data", "split it, or use FP16 weights"
            )
        if length is not None and length != size:
            what = "short" if length < size else "long"
            raise BadModelError(
                self.path,
                f"its external data {shown} is too {what} for tensor {name}: {length} bytes; its shape needs {size}",
                "export it again",
            )
        try:
            if not stat.S_ISREG(target.stat().st_mode):
                raise BadModelError(self.path, f"its external data {shown} is not a file")
            with target.open("rb") as file:
                file.seek(min(offset or 0, 2**62))
                values = file.read(size)
        except OSError as error:
            why, remedy = reason(error), f"put {shown} beside the model"
            raise BadModelError(self.path, f"its external data {shown} cannot be read: {why}", remedy) from error
        if len(values) < size:
            raise BadModelError(
                self.path, f"its external data {shown} is too short for tensor {name}", "copy it again, with the model"
            )
        return values

    def _number(self, places: Dict[str, str], key: str, name: str) -> Optional[int]:
        text = places.get(key)
        if text is None:
            return None
        if re.fullmatch("-?[0-9]{1,18}", text) is None:
            raise BadModelError(
                self.path, f"tensor {name}: the {key} of its external data is not a number: {printable(repr(text))}"
            )
        if int(text) < 0:
            raise BadModelError(self.path, f"its external data is too short for tensor {name}: its {key} is {text}")
        return int(text)


def _opened(message: memoryview, least: int) -> bytes:
    parts: List[Field] = list(fields(message))
    kept = [item for item in parts if item.number != _DIMENSION_VALUE or item.integer() >= least]
    return b"".join(encode_field(item) for item in kept)


def _rewritten(message: memoryview, kind: str, changes: Dict[str, _Change]) -> bytes:
    if kind in changes:
        return changes[kind](message)
    children = _CHILDREN.get(kind)
    if children is None:
        return bytes(message)
    parts: List[bytes] = []
    for item in fields(message):
        child = children.get(item.number)
        if child is None:
            parts.append(encode_field(item))
        else:
            parts.append(encode(item.number, _rewritten(item.bytes(), child, changes)))
    return b"".join(parts)
