"""The value that a given share of all absolute values does not exceed.

Source: the percentile calibration of Wu et al. 2020, "Integer Quantization for Deep Learning Inference: Principles and
Empirical Evaluation" (arXiv:2004.09602), section 3.3. As there, zeros count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.calibration.methods import DEFAULT_PERCENTILE
from googlenet_deploy.errors import UsageError

if TYPE_CHECKING:
    from googlenet_deploy.calibration.histogram import Histogram


def percentile_threshold(histogram: Histogram, percentile: float = DEFAULT_PERCENTILE) -> float:
    """The clipping threshold, interpolated within its bin; 0 for a tensor that was always zero.

    Args:
        histogram: The values seen.
        percentile: Share of absolute values that are not clipped, above 0 and up to 100.

    Raises:
        UsageError: `percentile` is out of range.
    """
    if not 0 < percentile <= 100:
        raise UsageError(f"a percentile is above 0 and up to 100, not {percentile}")
    counts = histogram.magnitudes()
    total = int(counts.sum())
    if total == 0 or percentile == 100:
        return histogram.amax
    cumulative = np.cumsum(counts)
    wanted = total * percentile / 100
    index = int(np.searchsorted(cumulative, wanted))
    before = int(cumulative[index - 1]) if index else 0
    position = index + (wanted - before) / max(int(counts[index]), 1)
    return float(min(position * histogram.width, histogram.amax))
