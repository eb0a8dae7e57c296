"""The largest absolute value: nothing is clipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from googlenet_deploy.calibration.histogram import Histogram


def max_threshold(histogram: Histogram) -> float:
    """The clipping threshold; 0 for a tensor that was always zero."""
    return histogram.amax
