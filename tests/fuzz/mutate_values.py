"""Seeded mutations of JSON values, text and bytes."""

from __future__ import annotations

import json
import random
import struct
from copy import deepcopy
from typing import Any

STRANGE = (
    "\x1b]0;owned\x07\x1b[2J", "two\nlines: error: forged", "\u202eabc", "x" * 5000, "\x00", "\U0001f600", " ", "a/b",
    "%s{}",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, -0.5, 1e-320, 1e308, float("inf"), float("nan"), "", "x",
    "\ud800", "\x1b[2J", [], {}, [[]], [1, 2], {"a": 1}, "1", "9" * 5000,
)  # fmt: skip


def strange_text(rng: random.Random) -> str:
    """A name that a terminal, a path or a format would misinterpret."""
    return rng.choice(STRANGE)


def mutate_json(value: Any, rng: random.Random, steps: int) -> Any:
    """The value with some entries replaced, removed, duplicated or nested deeply."""
    holder = {"": json.loads(json.dumps(value))}
    for _ in range(steps):
        parent, key = _place(holder, rng)
        kind = rng.randrange(6)
        if kind == 0 and isinstance(parent, dict) and parent is not holder:
            del parent[key]
        elif kind == 1 and isinstance(parent, list):
            parent.insert(key, parent[key])
        elif kind == 2 and isinstance(parent, list):
            del parent[key]
        elif kind == 3 and isinstance(parent, dict) and parent is not holder:
            parent[rng.choice(("other", "", "\x1b[31m"))] = parent.pop(key)
        else:
            parent[key] = deepcopy(rng.choice(VALUES))  # a later step may change it
    return holder[""]


def _place(holder: dict[str, Any], rng: random.Random) -> tuple[Any, Any]:
    parent: Any = holder
    key: Any = ""
    while True:
        child = parent[key]
        if not isinstance(child, (dict, list)) or not child or rng.random() < 0.15:
            return parent, key
        parent = child
        key = rng.choice(list(child)) if isinstance(child, dict) else rng.randrange(len(child))


def mutate_json_text(content: bytes, rng: random.Random, steps: int) -> bytes:
    """A JSON file with other values, or damaged as text."""
    if rng.random() < 0.12:
        return mutate_bytes(content, rng, steps)
    if rng.random() < 0.03:
        return b"[" * 100_000
    return json.dumps(mutate_json(json.loads(content), rng, steps), indent=1).encode("utf-8", "surrogatepass")


def mutate_bytes(content: bytes, rng: random.Random, steps: int) -> bytes:
    """Bytes changed, cut, duplicated or inserted."""
    data = bytearray(content)
    for _ in range(steps):
        if not data:
            break
        at, kind = rng.randrange(len(data)), rng.randrange(5)
        if kind == 0:
            del data[at:]
        elif kind == 1:
            data[at:at] = data[at : at + rng.choice((1, 8, 100))]
        elif kind == 2:
            del data[at : at + rng.choice((1, 4, 20))]
        elif kind == 3:
            data[at : at + 4] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"))
        else:
            data[at] = rng.randrange(256)
    return bytes(data)


def mutate_lines(content: bytes, rng: random.Random, steps: int) -> bytes:
    """A text with changed lines, for formats such as the calibration cache."""
    lines = content.split(b"\n")
    for _ in range(steps):
        at, kind = rng.randrange(len(lines)), rng.randrange(6)
        name = lines[at].partition(b":")[0]
        if kind == 0:
            del lines[at : at + 1]
            lines = lines or [b""]
        elif kind == 1:
            lines.insert(at, lines[at])
        elif kind == 2:
            lines[at] = name + b": " + rng.choice((b"7f800000", b"00000000", b"ffffffff", b"7fc00000", b"3", b"zz"))
        elif kind == 3:
            lines[at] = rng.choice((b"TRT-9999-EntropyCalibration2", b"TRT-8502-Max", b"", b"\xff\xfe"))
        elif kind == 4:
            lines[at] = name * 500 + b": 3c010a14"
        else:
            lines[at] = mutate_bytes(lines[at], rng, 1)
    return b"\n".join(lines)


def mutate_safetensors(content: bytes, rng: random.Random, steps: int) -> bytes:
    """A checkpoint whose header has other values, or whose bytes are damaged."""
    size = struct.unpack("<Q", content[:8])[0]
    if rng.random() < 0.3:
        return mutate_bytes(content, rng, steps)
    header = json.loads(content[8 : 8 + size])
    metadata = header.get("__metadata__", {})
    nested = [name for name, text in metadata.items() if text[:1] in ("{", "[")]
    if nested and rng.random() < 0.4:
        name = rng.choice(nested)
        metadata[name] = json.dumps(mutate_json(json.loads(metadata[name]), rng, steps))
    else:
        header = mutate_json(header, rng, steps)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    stated = len(text) if rng.random() < 0.9 else rng.choice((0, 2**31, 2**63, len(text) + 1))
    return struct.pack("<Q", stated) + text + content[8 + size :]
