"""Histograms of activations whose range grows with the data and never loses a count.

A histogram's range is a power of two, R, the smallest above every value seen; its bins are R / 16384 wide, on
both sides of zero. When a larger value comes, R doubles and neighbouring bins merge in pairs. Bin edges of the
wider histogram are edges of the narrower one, and the bin of a value is found without rounding, so the result does
not depend on the order of the values or on how they were divided into batches.

With 16384 bins for R, the largest value seen is above bin 8192: fine enough to be resampled to the 2048 bins
of TensorRT's entropy method, and far finer than a quantisation step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


BINS = 16384  # for each sign
# Values are binned in blocks that stay, with their bin numbers, in the second-level cache.
BLOCK = 1 << 17
# Powers of two outside this span have no exact reciprocal in float32; smaller values all fall into the first bin.
SMALLEST_EXPONENT, LARGEST_EXPONENT = -96, 128


@dataclass
class Histogram:
    """Counts of the values of one tensor.

    Attributes:
        exponent: The range is -2**exponent to 2**exponent.
        counts: int64 (2 * BINS,); bin BINS + i counts values in [i, i + 1) times `width`.
        minimum: Smallest value seen, infinity before the first.
        maximum: Largest value seen, -infinity before the first.
    """

    exponent: int = SMALLEST_EXPONENT
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2 * BINS, np.int64))
    minimum: float = math.inf
    maximum: float = -math.inf

    @property
    def width(self) -> float:
        """Width of a bin, in the tensor's unit."""
        return math.ldexp(1.0, self.exponent) / BINS

    @property
    def total(self) -> int:
        """Number of values seen."""
        return int(self.counts.sum())

    @property
    def amax(self) -> float:
        """Largest absolute value seen; 0 before the first."""
        return max(abs(self.minimum), abs(self.maximum)) if self.minimum <= self.maximum else 0.0

    def add(self, values: NDArray[np.floating]) -> None:
        """Counts every element of `values`.

        Args:
            values: Activations of any shape, float16, float32 or float64; binned as float32.

        Raises:
            FloatingPointError: A value is NaN or infinite; in that case nothing is counted.
        """
        flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
        if not flat.size:
            return
        low, high = float(flat.min()), float(flat.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise FloatingPointError("contains NaN or infinite values")
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self._grow(_exponent(max(abs(low), abs(high))))
        self._count(flat, signed=low < 0)

    def merge(self, other: Histogram) -> None:
        """Adds another histogram's counts, as if its values had been added here."""
        self._grow(other.exponent)
        self.counts += _widened(other.counts, self.exponent - other.exponent)
        self.minimum, self.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)

    def magnitudes(self) -> NDArray[np.int64]:
        """Counts of absolute values, int64 (BINS,); bin i counts |value| in [i, i + 1) times `width`."""
        counts: NDArray[np.int64] = self.counts[BINS:] + self.counts[:BINS][::-1]
        return counts

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """The state as arrays, for `from_arrays`."""
        return {"counts": self.counts, "range": np.array([self.minimum, self.maximum, self.exponent], np.float64)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Histogram:
        """Reads what `to_arrays` returned.

        Raises:
            ValueError: The arrays are not those of a histogram.
        """
        counts, span = np.asarray(arrays["counts"]), np.asarray(arrays["range"])
        if counts.shape != (2 * BINS,) or counts.dtype != np.int64 or span.shape != (3,):
            raise ValueError("a histogram has another shape")
        return cls(int(span[2]), counts.copy(), float(span[0]), float(span[1]))

    def _grow(self, exponent: int) -> None:
        if exponent > self.exponent:
            self.counts = _widened(self.counts, exponent - self.exponent)
            self.exponent = exponent

    def _count(self, flat: NDArray[np.float32], *, signed: bool) -> None:
        """Bins block by block; a power of two as factor and `floor` keep the bin number exact in float32."""
        factor = np.float32(1.0 / self.width)
        scaled, index = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.int64)
        for start in range(0, flat.size, BLOCK):
            block = flat[start : start + BLOCK]
            size = block.size
            np.multiply(block, factor, out=scaled[:size])
            if signed:
                np.floor(scaled[:size], out=scaled[:size])
                if factor < 1:  # the product of a tiny negative value may have vanished
                    np.putmask(scaled[:size], (scaled[:size] == 0) & (block < 0), -1)
            np.copyto(index[:size], scaled[:size], casting="unsafe")
            if signed:
                index[:size] += BINS
                self.counts += np.bincount(index[:size], minlength=2 * BINS)
            else:
                self.counts[BINS:] += np.bincount(index[:size], minlength=BINS)


def _exponent(amax: float) -> int:
    """The smallest exponent whose power of two is above `amax`."""
    exponent = math.frexp(amax)[1] if amax > 0 else SMALLEST_EXPONENT
    return min(max(exponent, SMALLEST_EXPONENT), LARGEST_EXPONENT)


def _widened(counts: NDArray[np.int64], doublings: int) -> NDArray[np.int64]:
    """Merges bins so that the range is 2**doublings times as wide."""
    if doublings == 0:
        return counts
    wider = np.zeros_like(counts)
    shift = min(doublings, int(math.log2(BINS)))
    size = BINS >> shift
    wider[BINS : BINS + size] = counts[BINS:].reshape(size, -1).sum(axis=1)
    wider[BINS - size : BINS] = counts[:BINS].reshape(size, -1).sum(axis=1)
    return wider


OUTLINE_BINS = 64


@dataclass(frozen=True)
class Outline:
    """A small histogram of the absolute values of one tensor.

    Attributes:
        width: Width of a bin, in the tensor's unit.
        counts: Values per bin, from 0 up; the last bin holds the largest value.
    """

    width: float
    counts: tuple[int, ...]


def outline(histogram: Histogram, bins: int = OUTLINE_BINS) -> Outline:
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
