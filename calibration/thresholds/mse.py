"""The threshold with the smallest mean squared error: the error of clipping against the gain of finer steps.

Source: Sung et al. 2015, "Resiliency of Deep Neural Networks under Quantization" (arXiv:1511.06488), and the "MSE"
estimator of Nagel et al. 2021, "A White Paper on Neural Network Quantization" (arXiv:2106.08295), section 3.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.calibration.thresholds.error import Magnitudes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.calibration.histogram import Histogram

# The error has one broad minimum, so a coarse search over shares of the maximum and a fine one around the best
# find it to a thousandth of the range.
COARSE_STEPS = 48
FINE_STEPS = 16
SMALLEST_SHARE = 0.02


def mse_threshold(histogram: Histogram) -> float:
    """The clipping threshold; 0 for a tensor that was always zero."""
    if histogram.amax == 0:
        return 0.0
    magnitudes = Magnitudes(histogram)
    step = (1 - SMALLEST_SHARE) / COARSE_STEPS
    best = _best_share(magnitudes, np.linspace(1, SMALLEST_SHARE, COARSE_STEPS + 1))
    around = np.linspace(best + step, max(best - step, SMALLEST_SHARE), 2 * FINE_STEPS + 1)
    return _best_share(magnitudes, np.minimum(around, 1.0)) * histogram.amax


def _best_share(magnitudes: Magnitudes, shares: NDArray[np.float64]) -> float:
    errors = []
    for share in shares:
        error = magnitudes.error(float(share) * magnitudes.amax)
        errors.append(error.rounding + error.clipping)
    return float(shares[int(np.argmin(errors))])  # the first, and so the largest, of equally good ones
