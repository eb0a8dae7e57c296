"""Per-channel scales: multiplying an array by a vector along one of its axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def along_axis(values: NDArray[Any], rank: int, axis: int) -> NDArray[Any]:
    """Reshapes a vector so that it broadcasts along one axis of an array; a single value broadcasts everywhere.

    Args:
        values: One value per position on the axis, or a single value.
        rank: Number of dimensions of the array.
        axis: The axis; may be negative.
    """
    if values.size == 1:
        return np.reshape(values, ())
    shape = [1] * rank
    shape[axis % rank] = values.size
    return np.reshape(values, tuple(shape))
