"""Resizing without antialiasing: the filter is not widened for downscaling.

Pillow's resize always widens its filter, as training does. OpenCV and most CUDA programs do not: each pixel is computed
from the few source pixels around its centre, ``(i + 0.5) * ratio - 0.5``. The weights are those of OpenCV's filters
(cubic with a = -0.75, Lanczos with 4 lobes, nearest at ``floor(i * ratio)``), so the pixels equal those of
``cv::resize`` except for rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Dict, Tuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Weights = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_CUBIC = -0.75


def resize_without_antialias(
    pixels: NDArray[np.uint8], size: Tuple[int, int], region: Tuple[int, int, int, int], interpolation: str
) -> NDArray[np.uint8]:
    """Returns part of an image resized to `size`.

    Args:
        pixels: uint8 (H, W) or (H, W, C).
        size: (width, height) of the complete resized image.
        region: (left, top, right, bottom) of the part, in the resized image.
        interpolation: "nearest", "bilinear", "bicubic" or "lanczos".

    Returns:
        uint8 (bottom - top, right - left) or the same with C.
    """
    left, top, right, bottom = region
    x, x_weights = source_taps(pixels.shape[1], size[0], (left, right), interpolation)
    y, y_weights = source_taps(pixels.shape[0], size[1], (top, bottom), interpolation)
    if interpolation == "nearest":
        return np.ascontiguousarray(pixels[np.ix_(y[:, 0], x[:, 0])])
    trailing = (1,) * (pixels.ndim - 2)
    result = np.zeros((bottom - top, right - left, *pixels.shape[2:]), np.float32)
    for row, row_weight in zip(y.T, y_weights.T):  # tap by tap, so that no more memory is needed than for the result
        for column, column_weight in zip(x.T, x_weights.T):
            weight = np.outer(row_weight, column_weight).reshape(*result.shape[:2], *trailing)
            result += weight * pixels[np.ix_(row, column)]
    return np.clip(np.floor(result + 0.5), 0, 255).astype(np.uint8)


def source_taps(
    length: int, size: int, part: Tuple[int, int], interpolation: str
) -> Tuple[NDArray[np.intp], NDArray[np.float32]]:
    """The source pixels that each resized pixel is computed from, along one axis.

    Args:
        length: Length of the source's axis, in pixels.
        size: Length of the complete resized axis.
        part: (start, stop) of the resized pixels to compute.
        interpolation: "nearest", "bilinear", "bicubic" or "lanczos".

    Returns:
        Indices and weights, (stop - start, taps) each; a pixel at the border may appear more than once.
    """
    ratio = length / size
    positions = np.arange(*part).astype(np.float64) * ratio
    if interpolation == "nearest":
        indices = _floor(positions, length)[:, np.newaxis]
        return indices, np.ones(indices.shape, np.float32)
    return _taps(positions + 0.5 * ratio - 0.5, length, interpolation)


def _floor(positions: NDArray[np.float64], length: int) -> NDArray[np.intp]:
    return np.clip(np.floor(positions).astype(np.intp), 0, length - 1)


def _taps(
    centres: NDArray[np.float64], length: int, interpolation: str
) -> Tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Indices and weights, (output pixels, taps), of the source pixels around each centre; the border is repeated."""
    taps, weigh = _FILTERS[interpolation]
    first = np.floor(centres).astype(np.intp) - (taps // 2 - 1)
    indices = first[:, np.newaxis] + np.arange(taps)
    weights = weigh(np.abs(indices - centres[:, np.newaxis]))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.clip(indices, 0, length - 1), weights.astype(np.float32)


def _triangle(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(1.0 - distance, 0.0)


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution (IEEE Trans. ASSP 29, 1981)."""
    near = ((_CUBIC + 2.0) * distance - (_CUBIC + 3.0)) * distance**2 + 1.0
    far = _CUBIC * (((distance - 5.0) * distance + 8.0) * distance - 4.0)
    return np.where(distance <= 1.0, near, np.where(distance < 2.0, far, 0.0))


def _lanczos(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(distance < 4.0, np.sinc(distance) * np.sinc(distance / 4.0), 0.0)


_FILTERS: Dict[str, Tuple[int, Weights]] = {
    "bilinear": (2, _triangle),
    "bicubic": (4, _cubic),
    "lanczos": (8, _lanczos),
}
