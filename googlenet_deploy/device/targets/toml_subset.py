"""The part of TOML that the toolkit's own profiles use, for Python 3.8, which has no ``tomllib``.

``[table]`` and ``[[array of tables]]`` headers (one level, bare names), and ``key = value`` with basic strings,
integers, floats, booleans, and arrays of those on one line. Everything else in TOML is rejected, so that every TOML
parser reads an accepted profile in the same way (https://toml.io/en/v1.0.0; a test compares with ``tomllib``).
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Tuple

_HEADER = re.compile(r"(\[\[|\[)\s*([A-Za-z0-9_-]+)\s*(\]\]|\])\s*(?:#.*)?$")
_PAIR = re.compile(r"([A-Za-z0-9_-]+)\s*=\s*(.*)$")
# No escapes but \" and \\, which TOML and JSON read alike.
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\["\\])*"')
_NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d*)(\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])")


def parse_toml(text: str) -> Dict[str, Any]:
    """Reads a profile.

    Raises:
        ValueError: A line is not of a kind listed in the module's docstring, or a key appears twice.
    """
    root: Dict[str, Any] = {}
    table = root
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        header, pair = _HEADER.match(stripped), _PAIR.match(stripped)
        if header and len(header.group(1)) == len(header.group(3)):
            table = _open_table(root, header.group(2), number, repeated=header.group(1) == "[[")
        elif pair:
            if pair.group(1) in table:
                raise ValueError(f"line {number}: {pair.group(1)} is there twice")
            table[pair.group(1)] = _whole_value(pair.group(2), number)
        else:
            raise ValueError(f"line {number}: cannot be read: {stripped}")
    return root


def _open_table(root: Dict[str, Any], name: str, number: int, *, repeated: bool) -> Dict[str, Any]:
    table: Dict[str, Any] = {}
    if repeated:
        tables = root.setdefault(name, [])
        if not isinstance(tables, list) or not all(isinstance(entry, dict) for entry in tables):
            raise ValueError(f"line {number}: {name} is not an array of tables")
        tables.append(table)
    elif name in root:
        raise ValueError(f"line {number}: {name} is there twice")
    else:
        root[name] = table
    return table


def _whole_value(text: str, number: int) -> Any:  # noqa: ANN401 - whatever the file says
    value, rest = _value(text, number)
    if rest.strip() and not rest.lstrip().startswith("#"):
        raise ValueError(f"line {number}: cannot be read after the value: {rest.strip()}")
    return value


def _value(text: str, number: int) -> Tuple[Any, str]:
    if text.startswith("["):
        return _array(text[1:], number)
    for word, value in (("true", True), ("false", False)):
        if re.match(rf"{word}(?!\w)", text):
            return value, text[len(word) :]
    string = _STRING.match(text)
    if string:
        return json.loads(string.group()), text[string.end() :]
    found = _NUMBER.match(text)
    if found is None:
        raise ValueError(f"line {number}: no value: {text}")
    is_float = any(mark in found.group() for mark in ".eE")
    return (float if is_float else int)(found.group()), text[found.end() :]


def _array(text: str, number: int) -> Tuple[List[Any], str]:
    values: List[Any] = []
    rest = text.lstrip()
    while not rest.startswith("]"):
        value, rest = _value(rest, number)
        values.append(value)
        rest = rest.lstrip()
        if rest.startswith(","):
            rest = rest[1:].lstrip()
        elif not rest.startswith("]"):
            raise ValueError(f"line {number}: an array without its end")
    return values, rest[1:]
