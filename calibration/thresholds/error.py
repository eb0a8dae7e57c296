"""The squared error that symmetric INT8 makes on the values of a histogram."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from googlenet_deploy.calibration.histogram import BINS
from googlenet_deploy.device.decibels import decibels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.calibration.histogram import Histogram

LARGEST_CODE = 127
LARGEST_DECIBELS = 200.0
# 4096 bins for the range leave 16 to 32 within one step of the largest threshold: the error is exact to a
# fraction of a percent, and a threshold is evaluated in microseconds.
ERROR_BINS = 4096


class SquaredError(NamedTuple):
    """Sums over all values: what rounding costs, what clipping costs, and the signal itself."""

    rounding: float
    clipping: float
    signal: float

    @property
    def decibels(self) -> float:
        """Signal-to-quantisation-noise ratio, 10 log10(signal / error); 200 if there is no error."""
        return decibels(self.signal, self.rounding + self.clipping, LARGEST_DECIBELS)


class Magnitudes:
    """Absolute values of a histogram in `ERROR_BINS` bins, up to the largest seen.

    Values are placed at the middle of their bin, those of the first at zero, where a ReLU puts half of them.

    Attributes:
        amax: Largest absolute value seen.
    """

    def __init__(self, histogram: Histogram) -> None:
        merged = histogram.magnitudes().reshape(ERROR_BINS, -1).sum(axis=1)
        width = histogram.width * (BINS // ERROR_BINS)
        used = min(ERROR_BINS, int(histogram.amax / width) + 1)
        self.amax = histogram.amax
        self._counts = merged[:used].astype(np.float64)
        self._centres = (np.arange(used) + 0.5) * width
        self._centres[0] = 0.0
        # Values are spread evenly within a bin; their spread around its middle is part of both signal and error.
        spread = np.full(used, width * width / 12)
        spread[0] = 0.0
        self._spread = spread * self._counts
        self._signal = float(np.dot(np.square(self._centres), self._counts) + self._spread.sum())

    def error(self, amax: float) -> SquaredError:
        """The error of clipping at `amax`, above 0, and rounding to multiples of amax / 127."""
        step = amax / LARGEST_CODE
        first_clipped = int(np.searchsorted(self._centres, amax + step / 2))
        inside = self._centres[:first_clipped]
        codes = np.minimum(np.rint(inside / step), LARGEST_CODE)
        rounding = self._sum(inside - codes * step, slice(0, first_clipped))
        clipping = self._sum(self._centres[first_clipped:] - amax, slice(first_clipped, None))
        return SquaredError(rounding, clipping, self._signal)

    def _sum(self, errors: NDArray[np.floating], bins: slice) -> float:
        return float(np.dot(np.square(errors), self._counts[bins]) + self._spread[bins].sum())


def squared_error(histogram: Histogram, amax: float) -> SquaredError:
    """The error on a histogram's values of clipping at `amax`; see `Magnitudes.error`."""
    return Magnitudes(histogram).error(amax)


def share_above(histogram: Histogram, amax: float) -> float:
    """Share of all values whose absolute value is above `amax`, 0..1, interpolated within a bin."""
    if amax >= histogram.amax or not histogram.total:
        return 0.0
    cumulative = np.concatenate([[0], np.cumsum(histogram.magnitudes())])
    below = np.interp(amax / histogram.width, np.arange(BINS + 1), cumulative)
    return float(max(0.0, 1.0 - below / cumulative[-1]))
