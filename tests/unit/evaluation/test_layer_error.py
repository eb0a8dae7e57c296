"""Sums of errors and the use of ranges."""

from __future__ import annotations

import math

import numpy as np
import pytest

from googlenet_deploy.evaluation.layer_error import LARGEST_DECIBELS, ErrorSum, LayerError, RangeUse


def test_decibels_of_known_noise_over_several_batches() -> None:
    error = ErrorSum()
    for _ in range(3):
        error.add(np.full((2, 5), 10.0, np.float32), np.full((2, 5), 10.1, np.float32))
    assert error.decibels == pytest.approx(40, abs=0.01)
    assert error.signal == pytest.approx(3000)


def test_decibels_end_at_both_sides() -> None:
    error = ErrorSum()
    assert error.decibels == LARGEST_DECIBELS
    error.add(np.ones(3), np.ones(3))
    assert error.decibels == LARGEST_DECIBELS
    silent = ErrorSum()
    silent.add(np.zeros(3), np.ones(3))
    assert silent.decibels == -LARGEST_DECIBELS
    broken = ErrorSum()
    broken.add(np.ones(3), np.array([1.0, np.inf, 1.0]))
    assert broken.decibels == -LARGEST_DECIBELS


def test_clipped_values_are_counted_on_both_sides() -> None:
    use = RangeUse(-1.0, 2.0)
    use.add(np.array([-1.5, -1.0, 0.0, 2.0]))
    use.add(np.array([[2.5, 3.0]]))
    assert (use.count, use.clipped, use.saturated) == (6, 3, 0.5)
    assert (use.smallest, use.largest) == (-1.5, 3.0)
    assert use.used == pytest.approx(1.5)


def test_going_below_zero_may_be_meant() -> None:
    use = RangeUse(-math.inf, 2.0)
    use.add(np.array([-9.0, 1.0]))
    assert use.saturated == 0.0
    assert use.used == 0.5


def test_nothing_seen_uses_nothing() -> None:
    assert (RangeUse(-1.0, 1.0).used, RangeUse(-1.0, 1.0).saturated) == (0.0, 0.0)


def test_what_a_layer_loses() -> None:
    layer = LayerError("c", "Conv", "c", 20.0, 30.0, 28.0)
    assert (layer.drop, layer.drop_unrounded) == (10.0, 2.0)
    first = LayerError("c", "Conv", "c", 20.0, None, 28.0)
    assert (first.drop, first.drop_unrounded) == (0.0, 0.0)
