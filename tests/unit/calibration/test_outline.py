"""Small histograms for people."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from googlenet_deploy.calibration.histogram import BINS, Histogram, outline


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=200))
def test_every_value_is_in_one_bin(values: list[float]) -> None:
    histogram = Histogram()
    histogram.add(np.array(values, np.float32))
    small = outline(histogram)
    assert len(small.counts) <= BINS
    assert sum(small.counts) == len(values)
    largest = max(map(abs, values))
    assert len(small.counts) * small.width >= largest * (1 - 1e-6)


def test_bins_hold_their_values() -> None:
    histogram = Histogram()
    histogram.add(np.array([0.0, 0.4, -0.4, 0.9, -0.999], np.float32))
    small = outline(histogram, bins=2)
    assert small.width == pytest.approx(0.5, rel=1e-2)
    assert small.counts == (3, 2)


def test_nothing_seen_is_one_empty_bin() -> None:
    assert outline(Histogram()).counts == (0,)
