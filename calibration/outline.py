"""A histogram in a few bins, for people: what a report draws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from googlenet_deploy.calibration.observers import Histogram

BINS = 64


@dataclass(frozen=True)
class Outline:
    """Absolute values of one tensor.

    Attributes:
        width: Width of a bin, in the tensor's unit.
        counts: Values per bin, from 0 up; the last one holds the largest value.
    """

    width: float
    counts: tuple[int, ...]


def outline(histogram: Histogram, bins: int = BINS) -> Outline:
    """Merges a histogram's fine bins into at most `bins` that reach just beyond the largest absolute value.

    No value is lost; a fine bin that spans two coarse ones counts in the lower.
    """
    magnitudes = histogram.magnitudes()
    filled = np.flatnonzero(magnitudes)
    used = int(filled[-1]) + 1 if len(filled) else 1
    size = math.ceil(used / bins)
    padded = np.zeros(math.ceil(used / size) * size, np.int64)
    padded[:used] = magnitudes[:used]
    return Outline(size * histogram.width, tuple(padded.reshape(-1, size).sum(axis=1).tolist()))
