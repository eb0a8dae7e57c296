"""Converts grey images with 16-bit, 32-bit or floating-point samples to 8 bits.

16-bit samples always keep their upper 8 bits. 32-bit integers and floating-point numbers have no inherent range, so the
smallest of 0..1 (floating point only), 0..255 and 0..65535 that contains all values is used; values outside all of them
are rejected. The choice is logged once per kind of samples.
"""

from __future__ import annotations

import logging
from typing import Set, Tuple

import numpy as np
from PIL import Image

_log = logging.getLogger(__name__)
_BITS_PER_SAMPLE = 258  # TIFF tag
_said: Set[Tuple[str, str]] = set()


def to_eight_bits(image: Image.Image, shown: str, *, wide: bool) -> Image.Image:
    """Converts an image of Pillow's modes "I", "I;16..." or "F" to "L".

    Args:
        image: The image.
        shown: Its name in the log.
        wide: Whether mode "I" holds 32 bits; see `has_32_bits`.

    Raises:
        ValueError: A sample is not a number, negative, or greater than 65535.
    """
    samples = np.asarray(image)
    if image.mode != "F" and not wide:
        return Image.fromarray(np.clip(samples.astype(np.int64) >> 8, 0, 255).astype(np.uint8))
    kind = "floating-point" if image.mode == "F" else "32-bit integer"
    values = samples.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it has samples that are not finite numbers")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 65535:
        raise ValueError(f"its {kind} samples run from {low:g} to {high:g}; known ranges are 0..1, 0..255 and 0..65535")
    if image.mode == "F" and high <= 1:
        values, filled = values * 255, "0..1"
    elif high <= 255:
        filled = "0..255"
    else:
        values, filled = np.floor(values / 256), "0..65535"
    _say_once(kind, filled, shown)
    return Image.fromarray(np.round(values).astype(np.uint8))


def has_32_bits(image: Image.Image) -> bool:
    """Whether a file's samples are 32-bit integers; older Pillow versions use mode "I" for 16-bit PNG and PGM too.

    Args:
        image: The image as opened; images derived from it no longer refer to the file.
    """
    if image.mode != "I" or image.format != "TIFF":
        return False
    return bool(max(getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (32,))) > 16)


def _say_once(kind: str, filled: str, shown: str) -> None:
    if (kind, filled) not in _said:
        _said.add((kind, filled))
        _log.warning("note: %s: its %s samples were taken as values %s, as in all images like it", shown, kind, filled)
