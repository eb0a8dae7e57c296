"""The part of the Protocol Buffers wire format that ONNX uses: strict reading, writing in the given order.

Source: https://protobuf.dev/programming-guides/encoding/. A Jetson has neither onnx nor protobuf for Python, and
JetPack's installed packages must not be changed, so the engine builder reads ONNX files with this module.
"""

from __future__ import annotations

import struct
from typing import Iterator, NamedTuple, Tuple, Union

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: "<Q", FIXED32: "<I"}


class Field(NamedTuple):
    """One field of a message.

    Attributes:
        number: Its number in the message's definition.
        wire_type: `VARINT`, `FIXED64`, `BYTES` or `FIXED32`.
        value: Unsigned integer, or the bytes of a string, submessage or packed array.
    """

    number: int
    wire_type: int
    value: Union[int, memoryview]

    def bytes(self) -> memoryview:
        """The value of a string, submessage or packed array.

        Raises:
            ValueError: It is a number.
        """
        if isinstance(self.value, int):
            raise ValueError(f"field {self.number} is a number where bytes are expected")  # noqa: TRY004 - bad data
        return self.value

    def integer(self) -> int:
        """The value of an integer, as int64: protobuf writes negative ones as their two's complement.

        Raises:
            ValueError: It is not a number.
        """
        if not isinstance(self.value, int):
            raise ValueError(f"field {self.number} is bytes where a number is expected")  # noqa: TRY004 - bad data
        return self.value - (1 << 64) if self.value >= 1 << 63 else self.value

    def text(self) -> str:
        """The value of a string.

        Raises:
            ValueError: It is a number, or not UTF-8.
        """
        return bytes(self.bytes()).decode("utf-8")


def fields(message: memoryview) -> Iterator[Field]:
    """Yields the fields of a message in the order of the file.

    Raises:
        ValueError: The message is truncated or not a protobuf message.
    """
    position, end = 0, len(message)
    while position < end:
        key = message[position]
        if key < 0x80:  # nearly all keys are a single byte
            position += 1
        else:
            key, position = _varint(message, position)
        number, wire_type = key >> 3, key & 7
        if number == 0:
            raise ValueError("field number 0")
        value: Union[int, memoryview]
        if wire_type == VARINT:
            value, position = _varint(message, position)
        elif wire_type == BYTES:
            length, position = _varint(message, position)
            value, position = _slice(message, position, length), position + length
        elif wire_type in _FIXED:
            layout = _FIXED[wire_type]
            size = struct.calcsize(layout)
            value, position = struct.unpack(layout, _slice(message, position, size))[0], position + size
        else:
            raise ValueError(f"wire type {wire_type}")
        yield Field(number, wire_type, value)


def integers(field: Field) -> Iterator[int]:
    """The values of a repeated integer field, packed or not."""
    if isinstance(field.value, int):
        yield field.integer()
        return
    position = 0
    while position < len(field.value):
        value, position = _varint(field.value, position)
        yield value - (1 << 64) if value >= 1 << 63 else value


def encode(number: int, value: Union[int, str, bytes, memoryview]) -> bytes:
    """Encodes one field: an integer as a varint, everything else as bytes."""
    if isinstance(value, int):
        return _encode_varint(number << 3 | VARINT) + _encode_varint(value & (1 << 64) - 1)
    data = value.encode("utf-8") if isinstance(value, str) else bytes(value)
    return _encode_varint(number << 3 | BYTES) + _encode_varint(len(data)) + data


def encode_field(field: Field) -> bytes:
    """Encodes a field to the bytes that it was read from, except that overlong varints become minimal."""
    if field.wire_type in _FIXED:
        return _encode_varint(field.number << 3 | field.wire_type) + struct.pack(_FIXED[field.wire_type], field.value)
    return encode(field.number, field.value)


def _slice(message: memoryview, position: int, length: int) -> memoryview:
    if position + length > len(message):
        raise ValueError("truncated")
    return message[position : position + length]


def _varint(message: memoryview, position: int) -> Tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(message):
            raise ValueError("truncated")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, position
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
