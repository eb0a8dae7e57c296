"""The error of a model's inner tensors against its reference, and how well its INT8 ranges fit the values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.device.decibels import decibels

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST_DECIBELS = 200.0  # of equal tensors; float32 itself reaches about 150


@dataclass
class ErrorSum:
    """Sums over all values of a tensor; pass batches to `add`.

    Attributes:
        signal: Sum of squares of the reference values.
        noise: Sum of squares of the differences.
    """

    signal: float = 0.0
    noise: float = 0.0

    def add(self, wanted: NDArray[np.floating], got: NDArray[np.floating]) -> None:
        """Adds two arrays of the same shape."""
        reference = np.asarray(wanted, np.float32)
        difference = np.asarray(got, np.float32) - reference
        self.signal += float(np.vdot(reference, reference))
        self.noise += float(np.vdot(difference, difference))

    @property
    def decibels(self) -> float:
        """Signal-to-quantisation-noise ratio: -200 to 200 dB."""
        return decibels(self.signal, self.noise, LARGEST_DECIBELS)


@dataclass
class RangeUse:
    """How the values of one tensor use their INT8 range; pass batches to `add`.

    Attributes:
        low: Smallest value that the range represents; -infinity if clipping below is intended, as with a zero point
            that replaces a ReLU.
        high: Largest value that the range represents.
        count: Values seen.
        clipped: Values seen outside the range.
        smallest: Smallest value seen.
        largest: Largest value seen.
    """

    low: float
    high: float
    count: int = 0
    clipped: int = 0
    smallest: float = math.inf
    largest: float = -math.inf

    def add(self, values: NDArray[np.floating]) -> None:
        """Adds values of any shape."""
        smallest, largest = float(values.min()), float(values.max())
        self.count += values.size
        if smallest < self.low or largest > self.high:
            self.clipped += int(np.count_nonzero(values > self.high) + np.count_nonzero(values < self.low))
        self.smallest, self.largest = min(self.smallest, smallest), max(self.largest, largest)

    @property
    def saturated(self) -> float:
        """Share of the values that are clipped, 0..1."""
        return self.clipped / self.count if self.count else 0.0

    @property
    def used(self) -> float:
        """Largest absolute value seen divided by the largest represented; above 1 if values are clipped."""
        reach = max(self.high, -self.low if math.isfinite(self.low) else 0.0)
        bottom = -self.smallest if math.isfinite(self.low) else 0.0
        return max(self.largest, bottom) / reach if reach > 0 and self.count else 0.0


@dataclass(frozen=True)
class LayerError:
    """One layer's output, as read by the layers after it, compared with the reference's.

    Attributes:
        name: The layer.
        operator: Its operator.
        tensor: Its output, after its activation.
        sqnr: Signal-to-noise ratio of the output, in dB; includes the error of everything before the layer.
        before: The lowest such ratio among its input tensors; None if it reads the image.
        unrounded: The ratio of the output before its own Q/DQ pair, whose rounding and clipping are included in `sqnr`.
    """

    name: str
    operator: str
    tensor: str
    sqnr: float
    before: float | None
    unrounded: float

    @property
    def drop(self) -> float:
        """Loss at this layer, in dB."""
        return 0.0 if self.before is None else self.before - self.sqnr

    @property
    def drop_unrounded(self) -> float:
        """The part of the loss due to the layer itself: its weights and its operation."""
        return 0.0 if self.before is None else self.before - self.unrounded


@dataclass(frozen=True)
class TensorRange:
    """A quantised activation.

    Attributes:
        tensor: Its name.
        is_input: Whether it is the image itself, or its normalisation.
        high: Largest value that its range represents.
        largest: Largest absolute value seen.
        used: `largest` divided by `high`.
        saturated: Share of the values seen that are clipped, 0..1.
        expected: Share that was clipped on the calibration images; None if not recorded in the model.
        sqnr: Signal-to-noise ratio of its rounding and clipping alone, in dB.
    """

    tensor: str
    is_input: bool
    high: float
    largest: float
    used: float
    saturated: float
    expected: float | None
    sqnr: float
