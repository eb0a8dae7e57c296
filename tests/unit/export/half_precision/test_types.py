from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from googlenet_deploy.export.half_precision.types import BF16, FP16, HALF_TYPES, HalfType

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize("kind", HALF_TYPES.values(), ids=lambda kind: kind.name)
def test_constants_are_read_by_onnx_as_by_us(kind: HalfType) -> None:
    values = np.linspace(-3, 3, 24, dtype=np.float32).reshape(2, 3, 4)
    tensor = kind.to_tensor(values, "w")
    assert tensor.name == "w"
    np.testing.assert_array_equal(numpy_helper.to_array(tensor).astype(np.float32), kind.from_tensor(tensor))
    np.testing.assert_allclose(kind.from_tensor(tensor), values, rtol=2**-8 if kind is BF16 else 2**-11)


def test_largest_values_stay_finite_and_what_lies_beyond_does_not() -> None:
    for kind in (FP16, BF16):
        assert kind.rounded(np.float32([kind.largest]))[0] == np.float32(kind.largest)
    assert np.isinf(FP16.rounded(np.float32([65520.0])))[0]


@given(st.lists(FINITE, min_size=1, max_size=16))
def test_bfloat16_is_the_nearest_of_its_neighbours(numbers: list[float]) -> None:
    values = np.array(numbers, np.float32)
    rounded = BF16.rounded(values)
    assert not (rounded.view(np.uint32) & 0xFFFF).any()
    below = (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)  # towards zero
    above = ((values.view(np.uint32) & np.uint32(0xFFFF0000)) + np.uint32(0x10000)).view(np.float32)
    with np.errstate(over="ignore"):
        nearest = np.minimum(np.abs(values.astype(float) - below), np.abs(above - values.astype(float)))
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(np.abs(values.astype(float) - rounded)[finite], nearest[finite])


def test_bfloat16_ties_go_to_even() -> None:
    values = np.array([0x3F808000, 0x3F818000], np.uint32).view(np.float32)
    np.testing.assert_array_equal(BF16.rounded(values).view(np.uint32), [0x3F800000, 0x3F820000])
