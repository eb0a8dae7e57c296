"""Grey images of 16, 32 or floating-point bits per sample as 8-bit ones.

16-bit samples keep their upper 8 bits, whatever they hold. 32-bit integers and floating-point numbers have no range of
their own, so it is the one of 0..1 (floating point only), 0..255 and 0..65535 that the values fill; a value outside
all of them is refused. What was decided is logged once per kind of samples.
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
    """An image of one of Pillow's modes "I", "I;16..." and "F" as "L".

    Args:
        image: The image.
        shown: What the log calls it.
        wide: Whether mode "I" holds 32 bits; see `has_32_bits`.

    Raises:
        ValueError: A sample is no number, negative, or greater than 65535.
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
    """Whether a file's samples are 32-bit integers; older Pillows hold 16-bit PNG and PGM files in mode "I", too.

    Args:
        image: As it was opened: what is made of it does not know its file.
    """
    if image.mode != "I" or image.format != "TIFF":
        return False
    return bool(max(getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (32,))) > 16)


def _say_once(kind: str, filled: str, shown: str) -> None:
    if (kind, filled) not in _said:
        _said.add((kind, filled))
        _log.warning("note: %s: its %s samples were taken as values %s, as in all images like it", shown, kind, filled)
