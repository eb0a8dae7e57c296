"""Protobuf's text format, as needed by configurations (https://protobuf.dev/reference/protobuf/textformat-spec/)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Message = dict[str, Any]


class Enum(str):
    """A value of an enumeration, written without quotes."""

    __slots__ = ()


def to_text(message: Mapping[str, Any], indent: int = 0) -> str:
    """A message as text, fields in the order of the mapping; lists are repeated fields."""
    return "".join(_field(name, value, "  " * indent, indent) for name, value in message.items())


def _field(name: str, value: object, space: str, indent: int) -> str:
    if isinstance(value, Mapping):
        return f"{space}{name} {{\n{to_text(value, indent + 1)}{space}}}\n"
    if isinstance(value, Sequence) and not isinstance(value, str):
        if all(not isinstance(item, Mapping) for item in value):
            return f"{space}{name}: [{', '.join(map(_scalar, value))}]\n"
        return "".join(_field(name, item, space, indent) for item in value)
    return f"{space}{name}: {_scalar(value)}\n"


def _scalar(value: object) -> str:
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{_escaped(value)}"'
    return repr(value)


def _escaped(text: str) -> str:
    named = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return "".join(named.get(character) or _plain(character) for character in text)


def _plain(character: str) -> str:
    if ord(character) < 32 or ord(character) == 127:
        return f"\\{ord(character):03o}"
    return character
