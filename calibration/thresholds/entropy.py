"""TensorRT's entropy calibration: the threshold whose 128 levels lose the least information.

Source: Migacz 2017, "8-bit Inference with TensorRT" (GTC S7310), slides 22 to 24 and 38: for every i from 128 on, the
distribution P of the first i of 2048 bins, all outliers in the last of them, is compared by Kullback-Leibler divergence
with Q, the same bins merged into 128 levels and spread again over those that were not empty. As in
NVIDIA's pytorch-quantization, the bin of zero takes its neighbour's count: after a ReLU half of all values are
exactly zero, which every scale represents.

All 1921 divergences come from prefix sums: within a level Q is constant, so only the sums over levels are needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from googlenet_deploy.calibration.histogram import BINS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.calibration.histogram import Histogram

ENTROPY_BINS = 2048
LEVELS = 128


def entropy_threshold(histogram: Histogram) -> float:
    """The clipping threshold; 0 for a tensor that was always zero."""
    amax = histogram.amax
    if amax == 0:
        return 0.0
    counts = resample(histogram, ENTROPY_BINS)
    counts[0] = counts[1]
    if not counts.any():
        return amax
    divergences = _divergences(counts)
    best = len(divergences) - 1 - int(np.argmin(divergences[::-1]))  # the largest of equally good thresholds
    return (LEVELS + best) * amax / ENTROPY_BINS


def resample(histogram: Histogram, bins: int) -> NDArray[np.float64]:
    """Counts of absolute values in `bins` equal bins from 0 to the largest value seen, float64 (bins,).

    The finer bins are divided in proportion, so that no ripple arises if the two widths do not match.
    """
    cumulative = np.concatenate([[0], np.cumsum(histogram.magnitudes())]).astype(np.float64)
    edges = np.linspace(0, histogram.amax / histogram.width, bins + 1)
    at_edges = np.interp(edges, np.arange(BINS + 1), cumulative)
    at_edges[-1] = cumulative[-1]
    return np.maximum(np.diff(at_edges), 0.0)


def _divergences(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """KL(P || Q) in nats for thresholds after 128, 129, ... 2048 bins; infinite if Q misses values of P."""
    sums = _prefix(counts)
    filled = _prefix((counts > 0).astype(np.float64))
    own = _prefix(_times_log(counts))
    ends = np.arange(LEVELS, len(counts) + 1)
    inside, outliers = sums[ends], sums[-1] - sums[ends]
    last = counts[ends - 1]
    plain = own[ends] - _times_log(last) + _times_log(last + outliers)  # sum of c log c with the outliers moved in
    edges = (ends[:, None] * np.arange(LEVELS + 1)) // LEVELS
    level_sums, level_filled = np.diff(sums[edges], axis=1), np.diff(filled[edges], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_q = np.log(level_sums / level_filled)
    weights = level_sums.copy()
    weights[:, -1] += outliers
    crossed = np.where(weights > 0, weights * np.where(level_filled > 0, log_q, 0.0), 0.0).sum(axis=1)
    total = sums[-1]
    with np.errstate(divide="ignore"):
        divergences: NDArray[np.float64] = (plain - crossed) / total - np.log(total) + np.log(inside)
    divergences[(inside <= 0) | ((last <= 0) & (outliers > 0))] = np.inf
    return divergences


def _prefix(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(values)])


def _times_log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    safe = np.where(values > 0, values, 1.0)
    result: NDArray[np.float64] = values * np.log(safe)
    return result
