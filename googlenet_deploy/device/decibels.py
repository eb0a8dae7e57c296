"""Signal-to-noise ratios in decibels."""

from __future__ import annotations

import math


def decibels(signal: float, noise: float, limit: float = math.inf) -> float:
    """10 log10(signal / noise), clipped to -limit..limit dB.

    Args:
        signal: Sum of the squares of the reference values, at least 0.
        noise: Sum of the squares of the differences from them, at least 0.
        limit: The result without noise; its negative is the result without signal or if the noise is not finite.
    """
    if noise <= 0:
        return limit
    if signal <= 0 or not math.isfinite(noise):
        return -limit
    return max(-limit, min(limit, 10.0 * math.log10(signal / noise)))
