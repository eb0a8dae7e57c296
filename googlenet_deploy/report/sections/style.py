"""One colour per precision, throughout the report."""

from __future__ import annotations

_STYLES = {"fp32": "c-fp32", "fp16": "c-fp16", "bf16": "c-fp16", "int8": "c-int8"}


def style_of(name: str) -> str:
    """The class of a precision's marks."""
    return _STYLES.get(name, "c-main")
